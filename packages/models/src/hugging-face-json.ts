import { type Json, type JsonObject, UsageError } from "@espalier/core";

/** Reads typed values from a Hugging Face `config.json`. */
export interface HuggingFaceJson {
  /** A whole number that must be there. */
  size(key: string): number;
  /** A number, with Hugging Face's own default. */
  number(key: string, otherwise: number): number;
  /** A number or null, with Hugging Face's own default. */
  numberOrNull(key: string, otherwise: number | null): number | null;
  /**
   * Refuses a variant: the value must be one of these if it is there.
   *
   * @param why what we compute instead
   */
  require(key: string, values: readonly Json[], why: string): void;
  /** Refuses a variant that is described by a filled object. */
  requireEmpty(key: string, why: string): void;
}

/** @throws UsageError ESPALIER_HF_CONFIG_INVALID, ESPALIER_HF_CONFIG_UNSUPPORTED from its methods */
export function huggingFaceJson(json: JsonObject, modelType: string): HuggingFaceJson {
  const wrong = (key: string, expected: string): never => {
    const given = json[key] === undefined ? "it is missing" : `it is ${JSON.stringify(json[key])}`;
    throw new UsageError(
      "ESPALIER_HF_CONFIG_INVALID",
      `config.json of a ${modelType} model: "${key}" must be ${expected}, but ${given}`,
      { file: "config.json", key },
    );
  };
  const unsupported = (key: string, why: string, hint: string): never => {
    throw new UsageError(
      "ESPALIER_HF_CONFIG_UNSUPPORTED",
      `config.json of a ${modelType} model: "${key}" is ${JSON.stringify(json[key])}, but ${why}`,
      { file: "config.json", key, hint },
    );
  };
  const number = (key: string, otherwise: number): number => {
    const value = json[key] ?? otherwise;
    return typeof value === "number" && Number.isFinite(value) ? value : wrong(key, "a number");
  };
  return {
    number,
    size(key) {
      const value = json[key];
      return typeof value === "number" && Number.isSafeInteger(value) && value >= 1
        ? value
        : wrong(key, "a whole number of at least 1");
    },
    numberOrNull: (key, otherwise) =>
      json[key] === null || (json[key] === undefined && otherwise === null)
        ? null
        : number(key, otherwise ?? 0),
    require(key, values, why) {
      const value = json[key];
      if (value === undefined || values.includes(value)) return;
      unsupported(key, why, `supported: ${values.map((one) => JSON.stringify(one)).join(", ")}`);
    },
    requireEmpty(key, why) {
      const value = json[key];
      if (value == null || (typeof value === "object" && Object.keys(value).length === 0)) return;
      unsupported(key, why, `supported: no "${key}"`);
    },
  };
}
