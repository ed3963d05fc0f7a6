import type { RunEvent, StepMetrics } from "@espalier/tracking";

/** The part of the run journal that training writes to; `@espalier/tracking`'s `RunJournal` is one. */
export interface TrainingJournal {
  /** Ignores a step that it has already. */
  step(metrics: StepMetrics): unknown;
  event(event: RunEvent): unknown;
  /** Makes durable what was written. */
  flush(): Promise<void>;
}
