/** Where a command writes. Results go to standard output; with `--json` everything but the object goes to standard error. */
export interface Terminal {
  /** A line of the result that people read; silent with `--json`. */
  print(text?: string): void;
  /** Something worth telling that is not the result. */
  note(text: string): void;
  /** The result as one JSON object; silent without `--json`. */
  json(value: object): void;
  /** Where progress is shown. */
  readonly progress: NodeJS.WriteStream;
}

/** The terminal of a command. */
export function openTerminal(options: { readonly json?: boolean }): Terminal {
  if (options.json) {
    // Libraries that print to standard output must not spoil the object.
    console.log = console.error;
    console.info = console.error;
  }
  return {
    print(text = "") {
      if (!options.json) process.stdout.write(`${text}\n`);
    },
    note(text) {
      process.stderr.write(`${text}\n`);
    },
    json(value) {
      if (options.json) process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
    },
    progress: process.stderr,
  };
}
