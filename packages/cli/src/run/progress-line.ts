import { formatShape, sameShape } from "@espalier/core";
import type { GrowthEvent, RunEvent } from "@espalier/tracking";
import type { TrainingProgress } from "@espalier/trainer";
import { formatCount, formatFlops, formatSeconds } from "../format.js";

/** Shows a run while it trains: one live line on a terminal, plain lines elsewhere. */
export interface ProgressLine {
  step(progress: TrainingProgress): void;
  event(event: RunEvent): void;
  /** Something to say in a line of its own. */
  note(text: string): void;
  close(): void;
}

/** Between two updates of the live line, in milliseconds. */
const liveInterval = 100;
/** Between two plain lines, in milliseconds. */
const plainInterval = 5000;

/**
 * @param stages how many stages there are, where that is known
 * @param now milliseconds, for tests
 */
export function progressLine(
  stream: Pick<NodeJS.WriteStream, "write"> & { readonly isTTY?: boolean; readonly columns?: number },
  stages: number | null,
  now: () => number = Date.now,
): ProgressLine {
  const live = stream.isTTY === true;
  let shown = Number.NEGATIVE_INFINITY;
  let onScreen = "";

  const clear = (): void => {
    if (onScreen !== "") stream.write("\r\u001b[K");
    onScreen = "";
  };
  const line = (text: string): void => {
    const kept = onScreen;
    clear();
    stream.write(`${text}\n`);
    if (kept !== "") show(kept);
  };
  const show = (text: string): void => {
    const width = (stream.columns ?? 80) - 1;
    onScreen = text.length > width ? text.slice(0, width) : text;
    stream.write(`\r${onScreen}\u001b[K`);
  };

  return {
    step(progress) {
      const time = now();
      const last = progress.fraction >= 1;
      if (!last && time - shown < (live ? liveInterval : plainInterval)) return;
      shown = time;
      const text = describeProgress(progress, stages);
      if (live) show(text);
      else stream.write(`${text}\n`);
    },
    event(event) {
      const text = describeEvent(event);
      if (text !== null) line(text);
    },
    note: line,
    close: clear,
  };
}

/** `step 120/1200 · stage 2/3 · depth 5 of 3 unique · loss 5.2130 · …` */
export function describeProgress(progress: TrainingProgress, stages: number | null): string {
  const parts = [
    `step ${progress.step}${progress.totalSteps === null ? ` (${Math.floor(progress.fraction * 100)} %)` : `/${progress.totalSteps}`}`,
    `stage ${progress.stage + 1}${stages === null ? "" : `/${stages}`}`,
    progress.depth === progress.uniqueLayers
      ? `depth ${progress.depth}`
      : `depth ${progress.depth} from ${progress.uniqueLayers}`,
    `loss ${progress.loss === null ? "–" : progress.loss.toFixed(4)}`,
    `${formatCount(progress.tokensPerSecond)} tokens/s`,
    formatFlops(progress.flops),
  ];
  if (progress.secondsLeft !== null && progress.fraction < 1)
    parts.push(`${formatSeconds(progress.secondsLeft)} left`);
  return parts.join(" · ");
}

/** `3 to 6 layers`, or what else grew: `2×32, 2 heads, intermediate 128 to 2×64, 4 heads, intermediate 256`. */
function describeGrowth({ from, to }: GrowthEvent): string {
  return sameShape({ ...from, depth: to.depth }, to)
    ? `${from.depth} to ${to.depth} layers`
    : `${formatShape(from)} to ${formatShape(to)}`;
}

function describeEvent(event: RunEvent): string | null {
  switch (event.event) {
    case "growth":
      return `step ${event.step}: grew from ${describeGrowth(event)} by ${event.expander} in ${formatSeconds(event.seconds)}`;
    case "evaluation": {
      const target =
        event.targetLoss === undefined
          ? ""
          : `, ${event.targetLoss.toFixed(4)} at target depth ${event.targetDepth}`;
      return `step ${event.step}: evaluation loss ${event.loss.toFixed(4)} at ${event.depth} ${event.depth === 1 ? "layer" : "layers"}${target}`;
    }
    case "checkpoint":
      return `step ${event.step}: checkpoint ${event.path}`;
    case "resume":
      return `step ${event.step}: resumed`;
    default:
      return null;
  }
}
