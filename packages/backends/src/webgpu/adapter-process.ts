/**
 * A program of its own: asks Dawn, whose module its argument names, for an adapter. Its last line of output is JSON, the
 * adapter or `null`.
 */
import { describeAdapter } from "./adapter.js";
import { startDawn } from "./dawn.js";

const gpu = await startDawn(process.argv[2] ?? "");
const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
console.log(JSON.stringify(adapter === null ? null : describeAdapter(adapter)));
