import { definePlugin, strategy } from "@espalier/core";
import { z } from "zod";
import { huggingFaceCorpus } from "./corpora/huggingface.js";
import { jsonlCorpus } from "./corpora/jsonl.js";
import { sotuCorpus } from "./corpora/sotu.js";
import { textCorpus } from "./corpora/text.js";
import { causalLm } from "./objectives/causal-lm.js";
import { maskedLm, maskedLmDefaults } from "./objectives/masked-lm.js";

const name = z.string().min(1);
const files = z
  .union([name, z.array(name).min(1)])
  .describe("files, folders or glob patterns, relative to the definition");
const share = z.number().min(0).max(1);
const year = z.int();

const sotuOptions = z
  .strictObject({
    from: year.optional().describe("first year"),
    to: year.optional().describe("last year"),
  })
  .refine(({ from, to }) => (from ?? 1790) <= (to ?? 2021), {
    message: "`from` must not be after `to`; the addresses are of 1790 to 2021",
  });

const textOptions = z.strictObject({
  files,
  separator: z
    .enum(["file", "blank-line"])
    .default("file")
    .describe("what ends a document: the end of its file, or a blank line"),
});

const jsonlOptions = z.strictObject({
  files,
  field: name.default("text").describe("the field that holds the text; a dot leads into a nested object"),
});

const huggingFaceOptions = z.strictObject({
  dataset: z
    .string()
    .regex(/^[\w.-]+(\/[\w.-]+)?$/, "a dataset is given as owner/name")
    .describe("owner/name on the hub"),
  config: name.optional().describe("configuration (subset); needed only where there are several"),
  split: name.default("train"),
  revision: name
    .optional()
    .describe("branch, tag or commit; default: main, or the hub's conversion to Parquet"),
  field: name.default("text").describe("the column that holds the text"),
  endpoint: z
    .url()
    .optional()
    .describe("address of the hub; default: HF_ENDPOINT, else https://huggingface.co"),
  limit: z.int().positive().optional().describe("take the first documents only"),
});

const maskedLmOptions = z
  .strictObject({
    probability: share
      .gt(0)
      .default(maskedLmDefaults.probability)
      .describe("share of a sequence's positions that count"),
    maskShare: share
      .default(maskedLmDefaults.maskShare)
      .describe("share of those that the mask token replaces"),
    randomShare: share
      .default(maskedLmDefaults.randomShare)
      .describe("share of those that a random token replaces"),
  })
  .refine(({ maskShare, randomShare }) => maskShare + randomShare <= 1 + 1e-9, {
    message: "maskShare and randomShare must not exceed 1 together",
    path: ["randomShare"],
  });

/** The corpora and objectives that come with Espalier. */
export const dataPlugin = definePlugin({
  name: "@espalier/data",
  contract: 1,
  strategies: [
    strategy({
      kind: "corpus",
      name: "sotu",
      description: "State of the Union addresses, 10.7 MB, public domain, comes with the package",
      options: sotuOptions,
      needs: [],
      create: (options) => sotuCorpus(options),
    }),
    strategy({
      kind: "corpus",
      name: "text",
      description: "text files, folders and globs, also compressed (.gz)",
      options: textOptions,
      needs: ["baseDirectory"],
      create: (options, { baseDirectory }) => textCorpus(options, baseDirectory),
    }),
    strategy({
      kind: "corpus",
      name: "jsonl",
      description: "a field of JSON Lines files, also compressed (.gz)",
      options: jsonlOptions,
      needs: ["baseDirectory"],
      create: (options, { baseDirectory }) => jsonlCorpus(options, baseDirectory),
    }),
    strategy({
      kind: "corpus",
      name: "huggingface",
      description: "a dataset of the Hugging Face hub, streamed from its Parquet files",
      options: huggingFaceOptions,
      needs: [],
      create: (options) => huggingFaceCorpus(options),
    }),
    strategy({
      kind: "objective",
      name: "causal-lm",
      description: "every position predicts the next token",
      options: z.strictObject({}),
      needs: [],
      create: () => causalLm(),
    }),
    strategy({
      kind: "objective",
      name: "masked-lm",
      description: "predicts tokens that were masked, drawn anew in every micro-step",
      options: maskedLmOptions,
      needs: ["tokenizer"],
      create: (options, { tokenizer }) => maskedLm(options, tokenizer),
    }),
  ],
});
