import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { writeFailure, writeTextDurably } from "@espalier/checkpoints";
import { type GrowthMap, serializeGrowthMap } from "@espalier/core";

/**
 * Keeps a growth map in the run's folder, as `espalier grow --map` writes one: `growth-maps/stage-N.json`, N being the
 * stage that the growth begins (0 where a source grows before the first step). A growth that is repeated after a kill
 * writes the same file again.
 *
 * @throws EspalierError ESPALIER_DISK_FULL and its like
 */
export async function writeGrowthMap(folder: string, stage: number, map: GrowthMap): Promise<void> {
  const maps = join(folder, "growth-maps");
  await mkdir(maps, { recursive: true }).catch((error) => {
    throw writeFailure(maps, error);
  });
  await writeTextDurably(join(maps, `stage-${stage}.json`), `${JSON.stringify(serializeGrowthMap(map))}\n`);
}
