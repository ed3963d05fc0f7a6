import type { InjectionToken } from "tsyringe";
import type { Json } from "./json.js";
import type { LayerMapping } from "./layer-map.js";
import type { ModelFamily } from "./model-family.js";
import type { Services } from "./plugin.js";
import type { RandomStream } from "./random-stream.js";
import type { DepthSampler, Expander, GrowthSchedule } from "./strategy.js";
import type { LearningRateSchedule, Objective, Optimizer, SequenceData } from "./training.js";

// Tokens are symbols with a type: tsyringe needs no decorator metadata for them, which a build tool might drop.
function token<T>(name: string): InjectionToken<T> {
  return Symbol(name) as InjectionToken<T>;
}

/** What the composition root registers in a run's child container. */
export const tokens = {
  sampler: token<DepthSampler<Json>>("DepthSampler"),
  schedule: token<GrowthSchedule<Json>>("GrowthSchedule"),
  expander: token<Expander>("Expander"),
  sharing: token<LayerMapping>("LayerMapping"),
  learningRate: token<LearningRateSchedule>("LearningRateSchedule"),
  optimizer: token<Optimizer>("Optimizer"),
  objective: token<Objective>("Objective"),
  family: token<ModelFamily>("ModelFamily"),
  data: token<SequenceData>("SequenceData"),
  random: token<RandomStream>("RandomStream"),
} as const;

/** The token of each service that a strategy can need. */
export const serviceTokens: { readonly [Name in keyof Services]: InjectionToken<Services[Name]> } = {
  target: token("target"),
  family: tokens.family,
  budget: token("budget"),
  tokenizer: token("tokenizer"),
  baseDirectory: token("baseDirectory"),
  source: token("source"),
  widthOperator: token("widthOperator"),
};
