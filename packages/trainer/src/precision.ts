import { type Precision, UsageError } from "@espalier/core";
import { supportsPrecision } from "@espalier/ops";
import * as tf from "@tensorflow/tfjs";

/**
 * Refuses a precision that the active engine does not compute in, before anything is trained.
 *
 * @throws UsageError ESPALIER_PRECISION_UNSUPPORTED
 */
export function checkPrecision(precision: Precision): void {
  if (supportsPrecision(precision)) return;
  throw new UsageError(
    "ESPALIER_PRECISION_UNSUPPORTED",
    `"training.precision" is ${precision}, but the engine ${tf.getBackend()} computes in fp32 only`,
    { key: "training.precision", hint: "set training.precision=fp32, or choose --backend libtorch" },
  );
}
