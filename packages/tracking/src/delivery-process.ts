// Delivers one run from a process of its own: started by BackgroundDelivery, told by messages what to do. When the run's
// process is gone without having said how it ended (killed, out of memory), the run is marked so, after the rest of its
// journal was sent.
import { constants, setPriority } from "node:os";
import { type FromDelivery, optionsVariable, type ToDelivery } from "./delivery-messages.js";
import { MlflowDelivery, type MlflowDeliveryOptions } from "./mlflow-delivery.js";

/** Nobody waits for it then: a server that is slow, or just being started again, is waited for. */
const secondsAfterCrash = 120;

const options = JSON.parse(process.env[optionsVariable] ?? "") as MlflowDeliveryOptions;
// Programs that measure the machine are started from here, and have no use for it.
delete process.env[optionsVariable];
const delivery = MlflowDelivery.start({ ...options, note: (line) => tell({ kind: "note", line }) });
let isFinishing = false;
// Where the training uses every core, it comes first.
try {
  setPriority(constants.priority.PRIORITY_LOW);
} catch {
  // Then the two share the cores.
}

process.on("message", ({ status, withinSeconds }: ToDelivery) => void finish(status, withinSeconds));
process.on("disconnect", () => void finish("KILLED", secondsAfterCrash));
if (!process.connected) void finish("KILLED", secondsAfterCrash);
// Ctrl-C is for the training, which says when it has ended.
process.on("SIGINT", () => undefined);
process.on("SIGTERM", () => undefined);

async function finish(status: "FINISHED" | "FAILED" | "KILLED", withinSeconds: number): Promise<void> {
  if (isFinishing) return;
  isFinishing = true;
  tell({ kind: "done", result: await delivery.finish(status, { withinSeconds }) });
  if (process.connected) process.disconnect();
}

function tell(message: FromDelivery): void {
  // A run's process that is gone hears nothing, and that is no failure here.
  if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
}
