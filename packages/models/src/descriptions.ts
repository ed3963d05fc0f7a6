import type { ModelDescription } from "@espalier/core";
import { bertDescription } from "./bert-description.js";
import { gpt2Description } from "./gpt2-description.js";

/**
 * The families of this package without their forward passes. Importing `@espalier/models/descriptions` loads no
 * TensorFlow.js, which alone would take longer than copying a checkpoint of a hundred million parameters.
 */
export const modelDescriptions: readonly ModelDescription[] = [bertDescription, gpt2Description];
