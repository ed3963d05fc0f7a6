/** A step's time at a number of executed layers. */
export interface DepthTime {
  readonly depth: number;
  readonly stepSeconds: number;
}

/** How a step's time grows with the executed layers: the line of least squares through the times. */
export interface LayerTime {
  readonly steps: readonly (DepthTime & {
    /** (step − fixed part) / executed layers. */
    readonly layerSeconds: number;
  })[];
  /** The part of a step that does not depend on depth: embeddings, head, loss. Null with one depth only. */
  readonly fixedSeconds: number | null;
  /** The line's slope. Null with one depth only. */
  readonly secondsPerLayer: number | null;
  /** The largest of |layerSeconds / secondsPerLayer − 1|: 0 where a layer takes the same time at every depth. */
  readonly largestDeviation: number | null;
}

/** Fits the time of an executed layer. */
export function fitLayerTime(times: readonly DepthTime[]): LayerTime {
  const mean = (of: (time: DepthTime) => number) =>
    times.reduce((sum, time) => sum + of(time), 0) / times.length;
  const depth = mean((time) => time.depth);
  const seconds = mean((time) => time.stepSeconds);
  const spread = mean((time) => (time.depth - depth) ** 2);
  if (spread === 0) {
    const steps = times.map((time) => ({ ...time, layerSeconds: time.stepSeconds / time.depth }));
    return { steps, fixedSeconds: null, secondsPerLayer: null, largestDeviation: null };
  }
  const slope = mean((time) => (time.depth - depth) * (time.stepSeconds - seconds)) / spread;
  const fixedSeconds = seconds - slope * depth;
  const steps = times.map((time) => ({
    ...time,
    layerSeconds: (time.stepSeconds - fixedSeconds) / time.depth,
  }));
  const largestDeviation = Math.max(...steps.map(({ layerSeconds }) => Math.abs(layerSeconds / slope - 1)));
  return { steps, fixedSeconds, secondsPerLayer: slope, largestDeviation };
}
