import { lastCompleteStep, listSteps, type OpenCheckpoint } from "@espalier/checkpoints";

/** Says that a run's last step cannot be read, where an earlier one was opened in its place. */
export function noteDamage({ passedOver, step }: OpenCheckpoint, note: (text: string) => void): void {
  if (passedOver.length > 0)
    note(`step ${passedOver.join(", ")} is damaged or incomplete, so that step ${step} is the run's last`);
}

/** Says so before a run goes on from an earlier step than it had reached, and removes the damaged ones. */
export async function noteDamageOfRun(folder: string, note: (text: string) => void): Promise<void> {
  const step = await lastCompleteStep(folder);
  const damaged = (await listSteps(folder)).filter((each) => each > (step ?? -1));
  if (damaged.length > 0)
    note(
      `step ${damaged.join(", ")} is damaged or incomplete: the run goes on from ${step === null ? "its beginning" : `step ${step}`}`,
    );
}
