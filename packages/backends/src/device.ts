import { UsageError } from "@espalier/core";

const FORM = /^(auto|cpu|mps|cuda(:\d{1,2})?)$/;

/**
 * The device asked for, in its full form: the given one, else `ESPALIER_DEVICE`, else `auto`. `cuda` is `cuda:0`.
 *
 * @throws UsageError where it is no device's name
 */
export function resolveDevice(device: string | undefined): string {
  if (device !== undefined && device !== "auto") return named(device, "device");
  const wanted = process.env.ESPALIER_DEVICE;
  return wanted === undefined || wanted === "" ? "auto" : named(wanted, "ESPALIER_DEVICE");
}

function named(given: string, key: string): string {
  if (!FORM.test(given)) {
    throw new UsageError(
      "ESPALIER_BACKENDS_DEVICE",
      `${key}: expected auto, cpu, cuda, cuda:<index> or mps, given "${given}"`,
      { key },
    );
  }
  return given === "cuda" ? "cuda:0" : given;
}

/**
 * A device that the backend, its library or this machine does not have: a wrong choice, exit code 2.
 *
 * @param found what was found instead
 * @param hint what to do
 */
export function noSuchDevice(backend: string, device: string, found: string, hint: string): UsageError {
  return new UsageError(
    "ESPALIER_BACKENDS_NO_DEVICE",
    `backend ${backend} has no device "${device}": ${found}`,
    { key: "device", hint },
  );
}
