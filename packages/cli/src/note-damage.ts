import type { OpenCheckpoint } from "@espalier/checkpoints";

/** Says that a run's last step cannot be read, where an earlier one was opened in its place. */
export function noteDamage({ passedOver, step }: OpenCheckpoint, note: (text: string) => void): void {
  if (passedOver.length > 0)
    note(`step ${passedOver.join(", ")} is damaged or incomplete, so that step ${step} is the run's last`);
}
