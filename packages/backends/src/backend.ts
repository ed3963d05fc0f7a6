/** Receives one line of progress, without a line break. */
export type Log = (line: string) => void;

/** What loading a backend needs to know. */
export interface LoadOptions {
  /** `auto`, `cpu`, `cuda:0`, …, already checked for its form. */
  readonly device: string;
  /** Threads of one operator. */
  readonly threads: number;
  /** Reproducible algorithms only, also where they are slower (a GPU). */
  readonly deterministic: boolean;
  readonly log: Log;
}

/** What a backend tells after it was loaded; written to a run's lock. */
export interface LoadedDetails {
  /** The device in use: `cpu`, `cuda:0`. */
  readonly device: string;
  /** Threads that one operator really uses. */
  readonly threads: number;
  /** The engine's name and version: `torch 2.11.0`. */
  readonly version: string;
  /** What was wanted and is done another way, a sentence each; such as a GPU that does not work. */
  readonly fallbacks: readonly string[];
}

/** Something that an engine does of itself on a device, or another way. */
export interface Capability {
  readonly name: "attention" | "bf16";
  /** Null where it cannot be found out. */
  readonly available: boolean | null;
  /** How it is done, half a sentence. */
  readonly how: string;
}

/** Whether a backend can be loaded here, found out without loading it. */
export type Finding =
  | {
      readonly usable: true;
      /** `torch 2.11.0` */
      readonly version: string;
      /** Where it was found and what it runs on, half a sentence. */
      readonly why: string;
    }
  | {
      readonly usable: false;
      readonly version: string | null;
      /** What is missing. */
      readonly why: string;
      /** The command or action that gets it. */
      readonly fix: string;
    };

/**
 * One engine under TensorFlow.js. A new one is a folder with such an object and an entry in the list of backends:
 * nothing else knows their names.
 */
export interface Backend {
  readonly name: string;
  /** What it is, for `doctor` and help. */
  readonly description: string;
  /** Native engines bring a runtime of their own; two of them never share a process. */
  readonly native: boolean;
  /** Looks for what is needed, in milliseconds: reads files only, loads nothing. */
  find(): Promise<Finding>;
  /** Why `auto` passes this backend over although it may be usable; null where it takes it. Without it, it does. */
  whyNotAutomatic?(): Promise<string | null>;
  /**
   * Finds or installs what is missing and compiles the addon. Quick where nothing is missing.
   *
   * @throws EspalierError naming the missing piece, with the command that gets it as its hint
   */
  setup(log: Log): Promise<void>;
  /**
   * Loads the engine into this process and makes it TensorFlow.js's current backend.
   *
   * @throws EspalierError where it does not load, or lacks the device
   */
  load(options: LoadOptions): Promise<LoadedDetails>;
  /** What it does of itself on a device that it was loaded on; for `doctor`. */
  capabilities(device: string): Promise<readonly Capability[]>;
}
