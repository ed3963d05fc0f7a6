import * as tf from "@tensorflow/tfjs";

/** A product of matrices `[m, k] · [k, n]`, `batch` times. */
export interface ProductShape {
  readonly batch: number;
  readonly m: number;
  readonly k: number;
  readonly n: number;
  readonly dtype: string;
  /** Whether an operand lies in memory column after column. */
  readonly transposeA: boolean;
  readonly transposeB: boolean;
}

/** One call into the engine. */
export interface EngineCall {
  readonly operator: string;
  /** The TensorFlow.js kernel that called. */
  readonly kernel: string | null;
  readonly phase: string | null;
  readonly milliseconds: number;
  /** Of these, between JavaScript and the operator. */
  readonly conversionMilliseconds: number;
  readonly bytesRead: number;
  readonly bytesMade: number;
  readonly peakBytes: number;
  readonly products: { readonly flops: number; readonly products: readonly ProductShape[] };
  /** Whether the host waited for the device. */
  readonly waits: boolean;
}

/** A stretch of time: of a kernel, or of a part of the step. */
export interface EngineSpan {
  readonly name: string;
  readonly milliseconds: number;
  /** Of these, in the engine. */
  readonly nativeMilliseconds: number;
}

/** What an engine did while it was watched. */
export interface EngineRecording {
  readonly milliseconds: number;
  readonly nativeMilliseconds: number;
  readonly calls: readonly EngineCall[];
  readonly kernels: readonly EngineSpan[];
  readonly phases: readonly EngineSpan[];
}

/** What an engine brings that can tell where its time goes: its TensorFlow.js backend has it as `profiler`. */
export interface EngineProfiler {
  /** `timing` is exact in time; `tracing` sees within operators and the memory that they use meanwhile. */
  record(detail: "timing" | "tracing", query: () => void): EngineRecording;
  /** Names the part of the work that begins here; nothing outside of a recording. */
  phase(name: string): void;
  /** Seconds of a product by itself. */
  productSeconds(product: ProductShape): number;
}

/** The active engine's profiler, or null where it has none. */
export function engineProfiler(): EngineProfiler | null {
  return (tf.backend() as { profiler?: EngineProfiler }).profiler ?? null;
}
