import type { NativeRecording } from "../addon.js";
import { type OperatorProducts, productsOf } from "./products.js";

/** How much is noted: `timing` is exact in time; `tracing` is slower, and sees within the operators. */
export type RecordingDetail = "timing" | "tracing";

/** A tensor as an operator got it. */
export interface RecordedTensor {
  /** ATen's number of the element type. */
  readonly dtype: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
}

/** An operator's argument: a tensor, a number, or null for anything else. */
export type RecordedArgument = RecordedTensor | number | null;

/** One call into libtorch. */
export interface RecordedCall {
  /** `aten::mm`, `espalier::dropout_mask`, or what the addon does besides: `free`, `read`, `upload`. */
  readonly operator: string;
  /** The TensorFlow.js kernel that called; null outside of kernels. */
  readonly kernel: string | null;
  /** The part of the step, as the caller named it. */
  readonly phase: string | null;
  /** When it began, since the recording did. */
  readonly start: number;
  /** From entering the addon to leaving it. */
  readonly milliseconds: number;
  /** Of these, outside of the operator: arguments and results between JavaScript and C++. */
  readonly conversionMilliseconds: number;
  /** Bytes of the tensors that it was given. */
  readonly bytesRead: number;
  /** Bytes of memory that came into being with its results. */
  readonly bytesMade: number;
  /** Most bytes of tensors in use while it ran; within the operator only by `tracing`. */
  readonly peakBytes: number;
  /** What it computed of matrix products; those within an operator only by `tracing`. */
  readonly products: OperatorProducts;
  /** Whether the host waited in it until the device was done; within operators only by `tracing`. */
  readonly waits: boolean;
}

/** One run of a TensorFlow.js kernel. */
export interface RecordedKernel {
  readonly name: string;
  readonly phase: string | null;
  readonly milliseconds: number;
  /** Of these, in libtorch. */
  readonly nativeMilliseconds: number;
}

/** The time from one mark of a phase to the next. */
export interface RecordedPhase {
  readonly name: string;
  readonly milliseconds: number;
  /** Of these, in libtorch. */
  readonly nativeMilliseconds: number;
}

/** What happened while a recording was on. */
export interface Recording {
  readonly milliseconds: number;
  /** In libtorch; the rest is JavaScript's. */
  readonly nativeMilliseconds: number;
  readonly calls: readonly RecordedCall[];
  readonly kernels: readonly RecordedKernel[];
  readonly phases: readonly RecordedPhase[];
}

/** The fields of `CallRecord` and `NestedRecord` in `native/recording.h`, in their order. */
const CALL_FIELDS = 11;
const NESTED_FIELDS = 5;

const KERNEL_CHANGES = -1;
/** What the addon does beside operators, by the negative numbers of `native/recording.h`. */
const OTHER_CALLS: Readonly<Record<number, string>> = {
  [-2]: "upload",
  [-3]: "read",
  [-4]: "alias",
  [-5]: "free",
  [-6]: "describe",
};

const NUMBER = -2;
const OTHER = -1;
const NANOSECONDS = 1e-6;

/**
 * Makes sense of what the addon noted.
 *
 * @param labels names of kernels and phases, by the numbers that the addon was given
 * @param isGpu whether uploads and reads make the host wait
 */
export function decodeRecording(
  native: NativeRecording,
  labels: readonly string[],
  isGpu: boolean,
): Recording {
  const { calls: rows, operators } = native;
  const nested = nestedOf(native);
  const nameOf = (label: number): string | null => (label < 0 ? null : (labels[label] ?? null));
  const calls: RecordedCall[] = [];
  const kernels = new Spans();
  const phases = new Spans();
  for (let index = 0; index * CALL_FIELDS < rows.length; index++) {
    const row = rows.subarray(index * CALL_FIELDS, (index + 1) * CALL_FIELDS);
    const [what = 0, kernelLabel = -1, phaseLabel = -1, start = 0, duration = 0, within = 0] = row;
    const [read = 0, made = 0, peak = 0, , offset = -1] = row.subarray(6);
    const kernel = nameOf(kernelLabel);
    const phase = nameOf(phaseLabel);
    if (what === KERNEL_CHANGES) {
      kernels.change(kernel, phase, start * NANOSECONDS);
      phases.change(phase, phase, start * NANOSECONDS);
      continue;
    }
    kernels.spend(duration * NANOSECONDS);
    phases.spend(duration * NANOSECONDS);
    const operator = what < 0 ? (OTHER_CALLS[what] ?? "?") : (operators[what] ?? "?");
    const inner = nested.get(index) ?? [];
    const values = offset < 0 ? [] : argumentsAt(native.arguments, offset);
    calls.push({
      operator,
      kernel,
      phase,
      start: start * NANOSECONDS,
      milliseconds: duration * NANOSECONDS,
      conversionMilliseconds: what < 0 ? 0 : (duration - within) * NANOSECONDS,
      bytesRead: read,
      bytesMade: made,
      peakBytes: peak,
      products: productsOf({ operator, values }, inner),
      waits: inner.some(({ waits }) => waits) || (isGpu && (operator === "read" || operator === "upload")),
    });
  }
  const milliseconds = native.seconds * 1000;
  return {
    milliseconds,
    nativeMilliseconds: calls.reduce((sum, call) => sum + call.milliseconds, 0),
    calls,
    kernels: kernels.close(milliseconds),
    phases: phases.close(milliseconds),
  };
}

/** An operator that was called within another one. */
export interface NestedCall {
  readonly operator: string;
  /** 0: the operator itself; 1: called by it; ... */
  readonly depth: number;
  readonly waits: boolean;
  readonly values: readonly RecordedArgument[];
}

function nestedOf({ nested: rows, names, arguments: noted }: NativeRecording): Map<number, NestedCall[]> {
  const byCall = new Map<number, NestedCall[]>();
  for (let at = 0; at < rows.length; at += NESTED_FIELDS) {
    const [name = -1, call = -1, depth = 0, waits = 0, offset = 0] = rows.subarray(at, at + NESTED_FIELDS);
    const list = byCall.get(call) ?? [];
    list.push({
      operator: names[name] ?? "?",
      depth,
      waits: waits === 1,
      values: argumentsAt(noted, offset),
    });
    byCall.set(call, list);
  }
  return byCall;
}

function argumentsAt(noted: Float64Array, offset: number): RecordedArgument[] {
  let at = offset;
  const next = (): number => noted[at++] ?? 0;
  const read = (): RecordedArgument => {
    const kind = next();
    if (kind === OTHER) return null;
    if (kind === NUMBER) return next();
    const rank = next();
    const shape = Array.from({ length: rank }, next);
    return { dtype: kind, shape, strides: Array.from({ length: rank }, next) };
  };
  return Array.from({ length: next() }, read);
}

/** Stretches of time under one label each, and the native time within them. */
class Spans {
  private readonly spans: {
    name: string;
    phase: string | null;
    milliseconds: number;
    nativeMilliseconds: number;
  }[] = [];
  private name: string | null = null;
  private phase: string | null = null;
  private since = 0;
  private spent = 0;

  change(name: string | null, phase: string | null, now: number): void {
    if (name === this.name) return;
    this.finish(now);
    this.name = name;
    this.phase = phase;
    this.since = now;
    this.spent = 0;
  }

  spend(milliseconds: number): void {
    this.spent += milliseconds;
  }

  close(now: number) {
    this.change(null, null, now);
    return this.spans;
  }

  private finish(now: number): void {
    if (this.name === null) return;
    this.spans.push({
      name: this.name,
      phase: this.phase,
      milliseconds: now - this.since,
      nativeMilliseconds: this.spent,
    });
  }
}
