import { join } from "node:path";
import { EspalierError } from "@espalier/core";
import type { Lock } from "@espalier/experiments";
import type { Terminal } from "../terminal.js";

/** Refuses other data; tells what makes the losses the same only up to rounding. */
export function compareLocks(before: Lock, now: Lock, folder: string, terminal: Terminal): void {
  if (before.data.fingerprint !== now.data.fingerprint)
    throw new EspalierError(
      "ESPALIER_RESUME_DATA",
      "the corpus or its tokenizer has changed since the run was started",
      {
        file: join(folder, "lock.json"),
        key: "data.fingerprint",
        hint: "bring the old text back, or give another --out",
      },
    );
  const differences = (["name", "version", "device", "threads"] as const)
    .filter((key) => before.backend[key] !== now.backend[key])
    .map(
      (key) => `${key === "name" ? "backend" : key} ${now.backend[key]} instead of ${before.backend[key]}`,
    );
  if (differences.length > 0)
    terminal.note(`resumed with ${differences.join(", ")}: losses continue up to rounding, not to the bit`);
}
