import { BACKENDS } from "./list.js";

/** What `doctor` shows of one backend. */
export interface BackendReport {
  readonly name: string;
  readonly description: string;
  readonly usable: boolean;
  readonly version: string | null;
  /** Where it was found, or what is missing. */
  readonly why: string;
  /** The command that gets what is missing. */
  readonly fix?: string;
}

/** Every backend's state, the best first, without loading any. */
export async function reportBackends(): Promise<BackendReport[]> {
  return Promise.all(
    BACKENDS.map(async ({ name, description, find }) => {
      const { usable, version, why, ...rest } = await find();
      return { name, description, usable, version, why, ...rest };
    }),
  );
}
