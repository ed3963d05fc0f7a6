import { type ModelConfig, UsageError } from "@espalier/core";

/**
 * Refuses sizes and rates that cannot be.
 *
 * @param has what the family has
 * @throws UsageError ESPALIER_MODEL_CONFIG_INVALID
 */
export function checkConfig(config: ModelConfig, has: { readonly tokenTypes: boolean }): void {
  atLeastOne("vocabSize");
  atLeastOne("maxPositions");
  if (has.tokenTypes) atLeastOne("tokenTypes");
  for (const key of ["dropout", "attentionDropout", "embeddingDropout"] as const) {
    const rate = config[key];
    if (rate !== undefined && !(rate >= 0 && rate < 1))
      refuse(key, `must be a probability of at least 0 and below 1, but is ${rate}`);
  }
  if (!(config.layerNormEpsilon > 0) || !Number.isFinite(config.layerNormEpsilon))
    refuse("layerNormEpsilon", `must be above 0, but is ${config.layerNormEpsilon}`);
  if (!(config.initializerRange >= 0) || !Number.isFinite(config.initializerRange))
    refuse("initializerRange", `must be at least 0, but is ${config.initializerRange}`);
  const pad = config.padToken;
  if (pad != null && !(Number.isSafeInteger(pad) && pad >= 0 && pad < config.vocabSize))
    refuse("padToken", `must be a token below vocabSize (${config.vocabSize}), but is ${pad}`);

  function atLeastOne(key: "vocabSize" | "maxPositions" | "tokenTypes"): void {
    if (!Number.isSafeInteger(config[key]) || config[key] < 1)
      refuse(key, `must be a whole number of at least 1, but is ${config[key]}`);
  }
}

function refuse(key: keyof ModelConfig, reason: string): never {
  throw new UsageError("ESPALIER_MODEL_CONFIG_INVALID", `model.${key} ${reason}`, { key: `model.${key}` });
}
