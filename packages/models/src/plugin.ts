import { definePlugin, strategy } from "@espalier/core";
import { z } from "zod";
import { bert } from "./bert.js";
import { gpt2 } from "./gpt2.js";

const none = z.strictObject({});

/** The families that Espalier brings. */
export const modelsPlugin = definePlugin({
  name: "@espalier/models",
  contract: 1,
  strategies: [
    strategy({
      kind: "family",
      name: "bert",
      description: "BERT with a masked-LM head: post-layer-norm, exact GELU",
      options: none,
      needs: [],
      create: () => bert,
    }),
    strategy({
      kind: "family",
      name: "gpt2",
      description: "GPT-2 with a tied head: pre-layer-norm, causal, tanh GELU",
      options: none,
      needs: [],
      create: () => gpt2,
    }),
  ],
});
