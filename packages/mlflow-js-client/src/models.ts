import { emptyAnswer, type LoggedModel, modelAnswer } from "./answers.js";
import { MlflowInputError } from "./errors.js";
import type { Rest } from "./rest.js";
import type { CallOptions } from "./transport.js";
import { checkParam, checkTag, type Param, type Tag } from "./validation.js";

/** What {@link MlflowModels.create} makes. */
export interface NewModel {
  readonly experimentId: string;
  /** Without `/ : . % " '`. */
  readonly name: string;
  /** The run that made it. */
  readonly sourceRunId?: string;
  /** Such as `safetensors`. */
  readonly modelType?: string;
  readonly params?: readonly Param[];
  readonly tags?: readonly Tag[];
}

/**
 * Logged models: what MLflow 3 lists under "Models" of an experiment and links from the run. MLflow 2 does not know
 * them and answers with a web page (MlflowResponseError, 404).
 */
export class MlflowModels {
  readonly #rest: Rest;

  constructor(rest: Rest) {
    this.#rest = rest;
  }

  /** Registers a model with its run. It is pending until {@link MlflowModels.finish}. @throws MlflowInputError */
  async create(model: NewModel, options: CallOptions = {}): Promise<LoggedModel> {
    if (model.name === "" || /[/:.%"']/.test(model.name))
      throw new MlflowInputError(`name: a model's name has no / : . % " or ', not "${model.name}"`, "name");
    for (const [index, param] of (model.params ?? []).entries()) checkParam(param, `params[${index}]`);
    for (const [index, tag] of (model.tags ?? []).entries()) checkTag(tag, `tags[${index}]`);
    const body = {
      experiment_id: model.experimentId,
      name: model.name,
      source_run_id: model.sourceRunId,
      model_type: model.modelType,
      params: model.params ?? [],
      tags: model.tags ?? [],
    };
    return (await this.#rest.post("logged-models", body, modelAnswer, options, true)).model;
  }

  /** Says that all of its files are there, or that it failed. */
  async finish(modelId: string, status: "READY" | "FAILED", options: CallOptions = {}): Promise<LoggedModel> {
    const body = { model_id: modelId, status: `LOGGED_MODEL_${status}` };
    const path = `logged-models/${encodeURIComponent(modelId)}`;
    return (await this.#rest.patch(path, body, modelAnswer, options)).model;
  }

  /** Links a model to the run as its output at a step. */
  async addToRun(runId: string, modelId: string, step: number, options: CallOptions = {}): Promise<void> {
    const models = [{ model_id: modelId, step }];
    await this.#rest.post("runs/outputs", { run_id: runId, models }, emptyAnswer, options);
  }
}
