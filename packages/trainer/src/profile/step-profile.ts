import type { EngineCall, EngineProfiler, EngineRecording, ProductShape } from "./engine-profiler.js";

/** Time and bytes of a group of calls, in one step. */
export interface ProfileRow {
  readonly name: string;
  readonly count: number;
  /** In the engine. */
  readonly milliseconds: number;
  /** Of the whole step. */
  readonly share: number;
  /** Bytes of the tensors that it was given. */
  readonly bytesRead: number;
  /** Bytes of memory that it made. */
  readonly bytesMade: number;
}

/** A TensorFlow.js kernel, and the engine's operators that it calls. */
export interface KernelRow extends ProfileRow {
  /** Milliseconds of JavaScript within the kernel. */
  readonly javascript: number;
  readonly operators: readonly ProfileRow[];
}

/** A matrix product of the step. */
export interface ProductRow extends ProductShape {
  readonly operators: readonly string[];
  readonly count: number;
  /** Of all of them. */
  readonly flops: number;
  /** As part of the step; null where it runs within an operator that computes more. */
  readonly milliseconds: number | null;
  readonly flopsPerSecond: number | null;
  /** By itself, in the same layout. */
  readonly flopsPerSecondAlone: number;
}

/** A part of the step. */
export interface PhaseRow {
  readonly name: string;
  readonly milliseconds: number;
  readonly javascript: number;
}

/** What a step could take at least: its matrix FLOPs over the rate that its own products reach by themselves. */
export interface Floor {
  /** Matrix products that the step's operators computed, attention's backward at 2 × forward. */
  readonly flops: number;
  /** Of the step's products, run one by one. */
  readonly flopsPerSecond: number;
  readonly milliseconds: number;
  /** The floor's share of the time that a step takes without a profile: 1 would be nothing but products. */
  readonly share: number;
}

/** Where the time of an optimizer step goes. */
export interface StepProfile {
  /** Steps that the times are means of. */
  readonly steps: number;
  /** A step while it was watched. */
  readonly milliseconds: number;
  /** In the engine. */
  readonly nativeMilliseconds: number;
  readonly javascript: {
    readonly milliseconds: number;
    /** Of the step. */
    readonly share: number;
    /** Milliseconds within kernels: arguments and results as the engine wants them. */
    readonly withinKernels: number;
    /** Milliseconds between kernels: the tape, scopes, the model's own code. */
    readonly betweenKernels: number;
    /** Milliseconds in the addon, outside of operators; part of `nativeMilliseconds`. */
    readonly conversion: number;
  };
  readonly phases: readonly PhaseRow[];
  readonly kernels: readonly KernelRow[];
  readonly operators: readonly ProfileRow[];
  readonly products: readonly ProductRow[];
  readonly floor: Floor | null;
  readonly memory: {
    /** Most bytes of tensors in use, what operators need meanwhile included. */
    readonly peakBytes: number;
    readonly kernel: string | null;
    readonly operator: string;
    readonly phase: string | null;
  } | null;
  /** Calls in which the host waited for the device. */
  readonly waits: readonly {
    readonly operator: string;
    readonly kernel: string | null;
    readonly count: number;
  }[];
}

/**
 * Watches some steps for their time, and one more for what is within their operators.
 *
 * @param stepSeconds a step that nobody watched, for the floor's share
 */
export function profileStep(
  profiler: EngineProfiler,
  options: { readonly steps: number; readonly stepSeconds: number; runStep(): void },
): StepProfile {
  const { steps, stepSeconds, runStep } = options;
  const timed = Array.from({ length: steps }, () => profiler.record("timing", runStep));
  const traced = profiler.record("tracing", runStep);
  const calls = timed.flatMap((recording) => recording.calls);
  const milliseconds = mean(timed, (recording) => recording.milliseconds);
  const nativeMilliseconds = mean(timed, (recording) => recording.nativeMilliseconds);
  const withinKernels = mean(timed, ({ kernels }) =>
    kernels.reduce((sum, kernel) => sum + kernel.milliseconds - kernel.nativeMilliseconds, 0),
  );
  const javascript = milliseconds - nativeMilliseconds;
  const rows = (group: readonly EngineCall[], nameOf: (call: EngineCall) => string): ProfileRow[] =>
    [...groupBy(group, nameOf)]
      .map(([name, members]) => rowOf(name, members, steps, milliseconds))
      .sort((a, b) => b.milliseconds - a.milliseconds);
  const products = productRows(profiler, traced, timed);
  return {
    steps,
    milliseconds,
    nativeMilliseconds,
    javascript: {
      milliseconds: javascript,
      share: javascript / milliseconds,
      withinKernels,
      betweenKernels: javascript - withinKernels,
      conversion: mean(timed, (recording) =>
        recording.calls.reduce((sum, call) => sum + call.conversionMilliseconds, 0),
      ),
    },
    phases: phaseRows(timed),
    kernels: kernelRows(timed, calls, rows, milliseconds),
    operators: rows(calls, ({ operator }) => operator),
    products,
    floor: floorOf(traced, products, stepSeconds),
    memory: peakOf(traced),
    waits: [
      ...groupBy(
        traced.calls.filter(({ waits }) => waits),
        ({ kernel, operator }) => `${kernel}/${operator}`,
      ),
    ]
      .flatMap(([, members]) =>
        members.slice(0, 1).map(({ operator, kernel }) => ({ operator, kernel, count: members.length })),
      )
      .sort((a, b) => b.count - a.count),
  };
}

function rowOf(name: string, members: readonly EngineCall[], steps: number, step: number): ProfileRow {
  const sum = (of: (call: EngineCall) => number) =>
    members.reduce((total, call) => total + of(call), 0) / steps;
  const milliseconds = sum((call) => call.milliseconds);
  return {
    name,
    count: members.length / steps,
    milliseconds,
    share: milliseconds / step,
    bytesRead: sum((call) => call.bytesRead),
    bytesMade: sum((call) => call.bytesMade),
  };
}

/** The name of what is called outside of kernels: disposal, uploads, reads. */
const OUTSIDE = "(outside of kernels)";

function kernelRows(
  timed: readonly EngineRecording[],
  calls: readonly EngineCall[],
  rows: (group: readonly EngineCall[], nameOf: (call: EngineCall) => string) => ProfileRow[],
  step: number,
): KernelRow[] {
  const spans = groupBy(
    timed.flatMap((recording) => recording.kernels),
    ({ name }) => name,
  );
  const callsOf = groupBy(calls, ({ kernel }) => kernel ?? OUTSIDE);
  const names = new Set([...spans.keys(), ...callsOf.keys()]);
  return [...names]
    .map((name): KernelRow => {
      const runs = spans.get(name) ?? [];
      const members = callsOf.get(name) ?? [];
      return {
        ...rowOf(name, members, timed.length, step),
        count: (name === OUTSIDE ? members.length : runs.length) / timed.length,
        javascript:
          runs.reduce((sum, run) => sum + run.milliseconds - run.nativeMilliseconds, 0) / timed.length,
        operators: rows(members, ({ operator }) => operator),
      };
    })
    .sort((a, b) => b.milliseconds - a.milliseconds);
}

function phaseRows(timed: readonly EngineRecording[]): PhaseRow[] {
  const spans = groupBy(
    timed.flatMap((recording) => recording.phases),
    ({ name }) => name,
  );
  return [...spans].map(([name, members]) => ({
    name,
    milliseconds: members.reduce((sum, span) => sum + span.milliseconds, 0) / timed.length,
    javascript:
      members.reduce((sum, span) => sum + span.milliseconds - span.nativeMilliseconds, 0) / timed.length,
  }));
}

/** Every shape of product in the step, and the rate that it reaches in the step and by itself. */
function productRows(
  profiler: EngineProfiler,
  traced: EngineRecording,
  timed: readonly EngineRecording[],
): ProductRow[] {
  const shapes = new Map<string, { shape: ProductShape; operators: Set<string>; count: number }>();
  for (const { operator, products } of traced.calls)
    for (const shape of products.products) {
      const key = keyOf(shape);
      const found = shapes.get(key) ?? { shape, operators: new Set(), count: 0 };
      found.operators.add(operator);
      found.count++;
      shapes.set(key, found);
    }
  // Times are known where a call is nothing but its product.
  const times = new Map<string, number>();
  for (const { calls } of timed)
    for (const { milliseconds, products } of calls) {
      const [only] = products.products;
      if (only === undefined || products.products.length > 1) continue;
      times.set(keyOf(only), (times.get(keyOf(only)) ?? 0) + milliseconds / timed.length);
    }
  return [...shapes]
    .map(([key, { shape, operators, count }]): ProductRow => {
      const flops = 2 * shape.batch * shape.m * shape.k * shape.n;
      const milliseconds = times.get(key) ?? null;
      return {
        ...shape,
        operators: [...operators],
        count,
        flops: count * flops,
        milliseconds,
        flopsPerSecond: milliseconds === null ? null : (count * flops) / (milliseconds / 1000),
        flopsPerSecondAlone: flops / profiler.productSeconds(shape),
      };
    })
    .sort((a, b) => b.flops - a.flops);
}

function keyOf({ batch, m, k, n, dtype, transposeA, transposeB }: ProductShape): string {
  return [batch, m, k, n, dtype, transposeA, transposeB].join();
}

function floorOf(
  traced: EngineRecording,
  products: readonly ProductRow[],
  stepSeconds: number,
): Floor | null {
  const flops = traced.calls.reduce((sum, call) => sum + call.products.flops, 0);
  const measured = products.reduce((sum, product) => sum + product.flops, 0);
  if (measured === 0) return null;
  const seconds = products.reduce((sum, product) => sum + product.flops / product.flopsPerSecondAlone, 0);
  const flopsPerSecond = measured / seconds;
  const floor = flops / flopsPerSecond;
  return { flops, flopsPerSecond, milliseconds: floor * 1000, share: floor / stepSeconds };
}

function peakOf(traced: EngineRecording): StepProfile["memory"] {
  let highest: EngineCall | null = null;
  for (const call of traced.calls) if (highest === null || call.peakBytes > highest.peakBytes) highest = call;
  if (highest === null) return null;
  const { peakBytes, kernel, operator, phase } = highest;
  return { peakBytes, kernel, operator, phase };
}

function groupBy<Member>(
  members: readonly Member[],
  keyOf: (member: Member) => string,
): Map<string, Member[]> {
  const groups = new Map<string, Member[]>();
  for (const member of members) {
    const group = groups.get(keyOf(member));
    if (group === undefined) groups.set(keyOf(member), [member]);
    else group.push(member);
  }
  return groups;
}

function mean(recordings: readonly EngineRecording[], of: (recording: EngineRecording) => number): number {
  return recordings.reduce((sum, recording) => sum + of(recording), 0) / recordings.length;
}
