import type { OpenCheckpoint } from "@espalier/checkpoints";
import type { TextTokenizer } from "@espalier/data";

/** The checkpoint's tokenizer, or null. Loaded only where there is one: that takes longer than the rest. */
export async function readTokenizerOf({ tokenizerFile }: OpenCheckpoint): Promise<TextTokenizer | null> {
  if (tokenizerFile === null) return null;
  const { readTokenizer } = await import("./read-tokenizer.js");
  return readTokenizer(tokenizerFile);
}
