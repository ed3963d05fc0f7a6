import type { DeliveryResult } from "./mlflow-delivery.js";

/**
 * The environment variable with the delivery's options as JSON. Not a message: a run that is killed at once must be
 * known, too. Not an argument: it may hold credentials, and arguments are public.
 */
export const optionsVariable = "ESPALIER_DELIVERY";

/** What a run's process tells the process that delivers it. */
export interface ToDelivery {
  readonly kind: "finish";
  readonly status: "FINISHED" | "FAILED" | "KILLED";
  readonly withinSeconds: number;
}

/** What it hears back. */
export type FromDelivery =
  | { readonly kind: "note"; readonly line: string }
  | { readonly kind: "done"; readonly result: DeliveryResult };
