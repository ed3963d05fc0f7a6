import type { DivergedEvent, EndEvent, InterruptedEvent, RunEvent } from "./records.js";

/** An event that ends a session of a run. */
export type EndingEvent = EndEvent | InterruptedEvent | DivergedEvent;

/**
 * The event that ended a run's last session; undefined where it still trains, or was killed.
 *
 * A session that resumed a finished run at its last step had nothing to train: it leaves the run finished. (Journals of
 * earlier versions have such a `resume` after their `end`.)
 */
export function endingOf(events: readonly RunEvent[]): EndingEvent | undefined {
  const last = events.findLast(({ event }) => event !== "resume");
  if (last === undefined || !isEnding(last)) return undefined;
  if (last === events.at(-1)) return last;
  if (last.event !== "end") return undefined;
  const later = events.slice(events.lastIndexOf(last) + 1);
  return later.every(({ step }) => step === last.step) ? last : undefined;
}

function isEnding(event: RunEvent): event is EndingEvent {
  return event.event === "end" || event.event === "interrupted" || event.event === "diverged";
}
