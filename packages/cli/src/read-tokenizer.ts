import { prepareTokenizer, type TextTokenizer } from "@espalier/data";

/**
 * Reads a Hugging Face `tokenizer.json`, or the folder that holds one.
 *
 * @throws UsageError where there is none
 */
export function readTokenizer(path: string): Promise<TextTokenizer> {
  return prepareTokenizer({ corpus: noText, tokenizer: { kind: "file", path } });
}

// A tokenizer that exists is not trained, so nothing is read.
const noText = {
  fingerprint: async () => "",
  async *documents() {},
};
