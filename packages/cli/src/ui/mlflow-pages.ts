/** Where a run is on a server. */
export interface RunPlace {
  readonly experimentId: string;
  readonly runId: string;
}

/** So many runs fit into the address of a compare page; more cannot be told apart there. */
const mostCompared = 50;

/** The place of a run whose page this is. */
export function placeOf(runPage: string): RunPlace | null {
  const [, experimentId, runId] = /\/experiments\/([^/]+)\/runs\/([^/?]+)/.exec(runPage) ?? [];
  return experimentId === undefined || runId === undefined ? null : { experimentId, runId };
}

/**
 * Addresses of MLflow's pages. MLflow 3 opens an experiment on its GenAI page, and its links lead there, unless the
 * address says that models are trained.
 */
export class MlflowPages {
  readonly #training: string;

  /** @param version the server's, as `GET /version` says it */
  constructor(
    readonly address: string,
    version: string,
  ) {
    this.#training = Number.parseInt(version, 10) >= 3 ? "workflowType=machine_learning" : "";
  }

  /** The table of an experiment's runs. */
  runs(experimentId: string): string {
    if (this.#training === "") return `${this.address}/#/experiments/${experimentId}`;
    return `${this.address}/#/experiments/${experimentId}/runs?${this.#training}`;
  }

  /** Charts of all runs of some experiments. */
  charts(experimentIds: readonly string[]): string {
    const [only, ...others] = experimentIds;
    const page =
      others.length === 0 && only !== undefined
        ? this.runs(only)
        : `${this.address}/#/compare-experiments/s?${list("experiments", experimentIds)}${this.#and()}`;
    return `${page}${page.includes("?") ? "&" : "?"}compareRunsMode=CHART`;
  }

  /** The page of one run. */
  run({ experimentId, runId }: RunPlace): string {
    const query = this.#training === "" ? "" : `?${this.#training}`;
    return `${this.address}/#/experiments/${experimentId}/runs/${runId}${query}`;
  }

  /** The page that compares runs: params and metrics side by side. Of very many, the last ones. */
  compare(places: readonly RunPlace[]): string {
    const compared = places.slice(-mostCompared);
    const runs = compared.map(({ runId }) => runId);
    const experiments = [...new Set(compared.map(({ experimentId }) => experimentId))];
    return `${this.address}/#/compare-runs?${list("runs", runs)}&${list("experiments", experiments)}${this.#and()}`;
  }

  #and(): string {
    return this.#training === "" ? "" : `&${this.#training}`;
  }
}

function list(name: string, values: readonly string[]): string {
  return `${name}=${encodeURIComponent(JSON.stringify(values))}`;
}
