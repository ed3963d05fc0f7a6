export { bert } from "./bert.js";
export type { ElectraFlops } from "./electra-flops.js";
export { electraFlops, electraTrainingFlops } from "./electra-flops.js";
export { gpt2 } from "./gpt2.js";
export { modelsPlugin } from "./plugin.js";
