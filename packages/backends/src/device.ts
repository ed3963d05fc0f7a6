import { UsageError } from "@espalier/core";

const FORM = /^(auto|cpu|mps|cuda(:\d{1,2})?)$/;

/**
 * A device's name in its full form: `cuda` is `cuda:0`.
 *
 * @throws UsageError where it is no device's name
 */
export function resolveDevice(device: string | undefined): string {
  const given = device ?? "auto";
  if (!FORM.test(given)) {
    throw new UsageError(
      "ESPALIER_BACKENDS_DEVICE",
      `device: expected auto, cpu, cuda, cuda:<index> or mps, given "${given}"`,
      { key: "device" },
    );
  }
  return given === "cuda" ? "cuda:0" : given;
}
