import type { z } from "zod";
import { MlflowResponseError } from "./errors.js";
import type { CallOptions, Transport } from "./transport.js";

const prefix = "/api/2.0/mlflow/";

/** MLflow's JSON endpoints: a path behind `/api/2.0/mlflow/`, and the fields that the answer must have. */
export class Rest {
  constructor(readonly transport: Transport) {}

  async get<Answer>(
    path: string,
    query: Readonly<Record<string, string | number | undefined>>,
    schema: z.ZodType<Answer>,
    options: CallOptions,
  ): Promise<Answer> {
    const answer = await this.transport.callJson({ method: "GET", path: prefix + path, query, ...options });
    return this.#check(path, schema, answer);
  }

  /** @param once sending it twice is not the same as once */
  async post<Answer>(
    path: string,
    body: unknown,
    schema: z.ZodType<Answer>,
    options: CallOptions,
    once = false,
  ): Promise<Answer> {
    return this.#send("POST", path, body, schema, options, once);
  }

  async patch<Answer>(
    path: string,
    body: unknown,
    schema: z.ZodType<Answer>,
    options: CallOptions,
  ): Promise<Answer> {
    return this.#send("PATCH", path, body, schema, options, false);
  }

  async #send<Answer>(
    method: "POST" | "PATCH",
    path: string,
    body: unknown,
    schema: z.ZodType<Answer>,
    options: CallOptions,
    once: boolean,
  ): Promise<Answer> {
    const answer = await this.transport.callJson({ method, path: prefix + path, body, once, ...options });
    return this.#check(path, schema, answer);
  }

  #check<Answer>(path: string, schema: z.ZodType<Answer>, answer: unknown): Answer {
    const parsed = schema.safeParse(answer);
    if (parsed.success) return parsed.data;
    const problem = parsed.error.issues
      .map((issue) => `${issue.path.join(".")}: ${issue.message}`)
      .join("; ");
    const { address } = this.transport.connection;
    throw new MlflowResponseError(`${address} answered ${path} with other fields: ${problem}`, 200);
  }
}
