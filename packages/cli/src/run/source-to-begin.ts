import { join } from "node:path";
import type { TextTokenizer } from "@espalier/data";
import { type Experiment, type LockedSource, withPlaceAsync } from "@espalier/experiments";
import { lockSourceOf, refuseOtherSource } from "./locked-source.js";
import type { RunFolder } from "./run-folder.js";
import { refuseOtherTokenizer, refuseOtherTokenizerFile } from "./source-tokenizer.js";

/** What a lock says of a source. */
export interface SourceOnRecord {
  readonly source: LockedSource;
  /** The lock's path. */
  readonly file: string;
}

/**
 * The checkpoint that a run without one of its own begins from; for one that begins from a nested definition, what its
 * lock is to say of that one's checkpoint. Null where there is none, or nothing asks for it.
 *
 * @param around of a nested definition: the record of the run around it
 * @throws UsageError ESPALIER_SOURCE_TOKENIZER
 * @throws EspalierError ESPALIER_RESUME_SOURCE if it is not the checkpoint on record
 */
export async function sourceToBegin(
  experiment: Experiment,
  folder: RunFolder,
  tokenizer: TextTokenizer,
  around: SourceOnRecord | undefined,
): Promise<LockedSource | null> {
  const { start, locate } = experiment;
  if (start.kind === "none") return null;
  if (start.kind === "experiment") {
    // Whether the checkpoint is still the same is asked where the nested definition begins from it.
    if (folder.state === "started") return null;
    await withPlaceAsync("start", locate, () => refuseOtherTokenizerFile(experiment));
    return around?.source ?? lockSourceOf(experiment);
  }
  await withPlaceAsync("start", locate, () => refuseOtherTokenizer(experiment, tokenizer));
  const source = await withPlaceAsync("start", locate, () => lockSourceOf(experiment));
  const before = folder.state === "started" ? recordOf(folder) : around;
  if (source && before) refuseOtherSource(before.source, source, before.file);
  return source;
}

function recordOf({
  lock,
  path,
}: Extract<RunFolder, { readonly state: "started" }>): SourceOnRecord | undefined {
  return lock.source && { source: lock.source, file: join(path, "lock.json") };
}
