import type { JsonObject } from "@espalier/core";
import type { TextTokenizer } from "./text-tokenizer.js";

/** How a tokenizer is used with a model. */
export interface TokenizerUse {
  /** Learned positions of the model. */
  readonly maxLength: number;
  /** Whether the model takes token types. */
  readonly hasTokenTypes: boolean;
}

/**
 * The files beside `tokenizer.json` that Hugging Face's `AutoTokenizer` reads. The class is the general fast tokenizer,
 * which takes `tokenizer.json` as it is: the classes of BERT and GPT-2 would put their own normalisation over it.
 */
export function tokenizerFiles(
  tokenizer: TextTokenizer,
  { maxLength, hasTokenTypes }: TokenizerUse,
): { readonly [file: string]: JsonObject } {
  const { info, markers } = tokenizer;
  const name = (id: number | null): string | null =>
    id === null ? null : tokenizer.decode([id], { specialTokens: true });
  const start = name(markers.sequenceStart);
  const end = name(info.endOfText);
  const isBidirectional = start !== null;
  const special: { [role: string]: string | null } = isBidirectional
    ? { cls_token: start, sep_token: name(markers.sequenceEnd) }
    : { bos_token: end, eos_token: end };
  special.mask_token = name(info.maskToken);
  special.pad_token = name(info.padToken);
  special.unk_token = unknownToken(tokenizer.json);
  const roles = Object.fromEntries(Object.entries(special).filter(([, token]) => token !== null));
  return {
    "tokenizer_config.json": {
      tokenizer_class: "PreTrainedTokenizerFast",
      model_max_length: maxLength,
      // GPT-2 would add an embedding for token types that it was never trained with.
      model_input_names: hasTokenTypes
        ? ["input_ids", "token_type_ids", "attention_mask"]
        : ["input_ids", "attention_mask"],
      clean_up_tokenization_spaces: false,
      ...roles,
    },
    "special_tokens_map.json": roles,
  };
}

/** The token that stands for what the vocabulary lacks, where the model has one. */
function unknownToken(json: string): string | null {
  const { model } = JSON.parse(json) as { model?: { unk_token?: unknown } };
  return typeof model?.unk_token === "string" ? model.unk_token : null;
}
