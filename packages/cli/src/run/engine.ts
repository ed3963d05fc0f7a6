import { type LoadedBackend, loadBackend } from "@espalier/backends";
import type { Definition } from "@espalier/experiments";

/**
 * Loads the engine that a definition asks for. `auto` leaves the choice to the environment (ESPALIER_BACKEND), and then
 * to what works here.
 */
export function loadEngine(
  definition: Pick<Definition, "backend" | "device" | "threads"> & Partial<Pick<Definition, "deterministic">>,
  note: (text: string) => void,
): Promise<LoadedBackend> {
  return loadBackend({
    ...(definition.backend === "auto" ? {} : { backend: definition.backend }),
    device: definition.device,
    threads: definition.threads,
    deterministic: definition.deterministic ?? false,
    log: note,
  });
}
