import type { Tensor, Tensor2D } from "@tensorflow/tfjs-core";
import type { ForeignTensor } from "./foreign-tensor.js";
import type { JsonObject } from "./json.js";
import type { LayerMap } from "./layer-map.js";
import type { RandomStream } from "./random-stream.js";
import type { ModelConfig } from "./shape.js";

/** Where a parameter belongs. `head` is what comes after the last layer, the final layer norm included. */
export type ModelPart = "embedding" | "layer" | "head";

/**
 * What an axis of a parameter counts. Axes of the same role across parameters share one index map when a model grows in
 * width: the output map of one is the input map of the next. `heads` are attention channels, grouped by head; `qkv` is
 * three such groups side by side (GPT-2's `c_attn`).
 */
export type AxisRole =
  | "vocabulary"
  | "positions"
  | "tokenTypes"
  | "hidden"
  | "heads"
  | "qkv"
  | "intermediate";

/** A parameter's place in the model, known without sizes. */
export interface ParameterPlace {
  /** Hugging Face's name. */
  readonly name: string;
  readonly part: ModelPart;
  /** Index of its layer, or null outside of the layers. */
  readonly layer: number | null;
  /** The name without the layer's prefix, the same in every layer; the whole name outside of the layers. */
  readonly suffix: string;
  readonly axes: readonly AxisRole[];
  /**
   * The axis that a product sums over, whose entries go with what feeds this parameter (PyTorch's `Linear` is
   * `[out, in]`: 1, Hugging Face's `Conv1D` is `[in, out]`: 0); null where there is none, as in vectors and embeddings.
   * Every other axis counts what the parameter gives out.
   */
  readonly inputAxis: number | null;
  /**
   * Set for the gain and bias of the last layer norm before a decoder that is tied to the embedding: such a decoder sums
   * over an axis that is an output of the embedding and cannot be divided by copy counts, so this layer norm is.
   */
  readonly beforeTiedDecoder?: true;
}

/** How a new parameter starts. */
export type Initializer =
  | { readonly kind: "normal"; readonly deviation: number }
  | { readonly kind: "zeros" }
  | { readonly kind: "ones" };

/** A parameter, with its size. */
export interface ParameterSpec extends ParameterPlace {
  readonly shape: readonly number[];
  /** Whether weight decay applies: not to names that end in `.bias`, nor to layer-norm parameters. */
  readonly decay: boolean;
  readonly initializer: Initializer;
}

/** Parameters by Hugging Face's names. */
export type ParameterMap = ReadonlyMap<string, Tensor>;

/** A batch on the device. */
export interface ModelInput {
  /** int32 `[batch, seq]` */
  readonly inputIds: Tensor2D;
  /** float32 `[batch, seq]`, 1 for a real token, 0 for padding; null where nothing is padded. */
  readonly attentionMask: Tensor2D | null;
  /** Flat positions (row · seq + column) whose logits are wanted, int32 `[counted]`; null for all. */
  readonly countedPositions: Tensor | null;
}

/**
 * What linear layers and attention compute in. Weights, moments, layer norm and the statistics of softmax are float32
 * either way.
 */
export type Precision = "fp32" | "bf16";

/** How layers are computed; the same in every step of a run. */
export interface ComputeOptions {
  /** Default: `fp32`. */
  readonly precision?: Precision;
  /**
   * Whether each layer keeps only its input, and runs its forward pass again in the backward pass. Changes memory and
   * time, and no number. Default: false.
   */
  readonly recompute?: boolean;
}

/** How one forward pass runs. */
export interface ForwardOptions extends ComputeOptions {
  /** Which unique layer each executed layer uses. */
  readonly layerMap: LayerMap;
  /**
   * The micro-step's own dropout stream, or null to drop nothing. A mask's seed is
   * `dropout.fork(executedLayer).fork(place).uint32()`; embeddings and head are layer -1.
   */
  readonly dropout: RandomStream | null;
}

/** The size of one micro-step, for the cost model. */
export interface StepLoad {
  readonly batchSize: number;
  readonly sequenceLength: number;
  readonly executedLayers: number;
  /** Positions per micro-batch whose logits are computed. */
  readonly countedPositions: number;
}

/** What one micro-step costs. */
export interface StepCost {
  /** Matrix products at 2·m·n·k. */
  readonly forwardFlops: number;
  /** Forward and backward: 3 × forward. What a recomputing layer runs a second time is not counted. */
  readonly trainingFlops: number;
}

/** Bytes that training holds; parameters, gradients and moments in float32. */
export interface MemoryCost {
  readonly parameters: number;
  readonly gradients: number;
  readonly optimizer: number;
  /** Estimate of what the forward pass keeps for the backward pass, at the deepest draw. */
  readonly activations: number;
}

/**
 * A family of models: its parameters for a shape, its forward pass for a layer map, how its parameters share axes, its
 * cost. The trainer, growth and the expanders know models only through this.
 */
export interface ModelFamily {
  readonly name: string;
  /** Whether a position sees only itself and what is before it. */
  readonly causal: boolean;
  /** `model_type` in a Hugging Face config. */
  readonly modelType: string;
  /** What a definition leaves open takes from the family. */
  readonly defaults: Pick<ModelConfig, "layerNormEpsilon" | "tokenTypes">;
  /** Refuses a config that this family cannot have (UsageError); core's `checkShape` has run before. */
  check(config: ModelConfig): void;
  /** Every parameter's place, for a number of layers, in a fixed order. */
  layout(depth: number): readonly ParameterPlace[];
  /** Every parameter with its size, in the order of `layout`. */
  parameters(config: ModelConfig): readonly ParameterSpec[];
  /** The full name of a layer's parameter. */
  layerParameter(layer: number, suffix: string): string;
  /**
   * Logits `[counted, vocab]` (row-major over batch and sequence when all are wanted). The caller owns the result and
   * disposes what lies between, or runs it under a gradient tape.
   */
  forward(
    parameters: ParameterMap,
    config: ModelConfig,
    input: ModelInput,
    options: ForwardOptions,
  ): Tensor2D;
  cost(config: ModelConfig, load: StepLoad): StepCost;
  memory(config: ModelConfig, load: StepLoad, compute?: ComputeOptions): MemoryCost;
  /** The content of Hugging Face's `config.json`. */
  toHuggingFace(config: ModelConfig): JsonObject;
  /** What Hugging Face's checkpoints of this architecture may hold beside its parameters. Default: nothing. */
  readonly foreignTensors?: readonly ForeignTensor[];
  /**
   * Reads Hugging Face's `config.json`.
   *
   * @throws UsageError for a variant that this family does not compute (another activation, relative positions, …)
   */
  fromHuggingFace(json: JsonObject): ModelConfig;
}

/** A family without its computation: enough to read and write checkpoints, which needs no engine. */
export type ModelDescription = Omit<ModelFamily, "forward" | "cost" | "memory">;
