import type { CallOptions, MlflowClient } from "@espalier/mlflow-js-client";

/** As many as eyes keep apart, and more. */
const howMany = 48;

/**
 * Colours for the tag `mlflow.runColor`. MLflow derives a run's colour from its id, and two runs may get the same. Steps by
 * the golden angle keep the hues of any number of runs apart; they begin with blue, red and green.
 */
export const runColours: readonly string[] = Array.from({ length: howMany }, (_, index) => colourOf(index));

/**
 * A colour that none of our last runs on the server has, of whatever experiment: MLflow compares runs across experiments,
 * too. With more runs than colours they come again.
 */
export async function unusedColour(client: MlflowClient, call: CallOptions): Promise<string> {
  const experiments = await client.searchExperiments({}, call);
  const { items } = await client.searchRuns(
    {
      experimentIds: experiments.items.map(({ experimentId }) => experimentId),
      filter: "tags.`espalier.runId` LIKE '%'",
      orderBy: ["attributes.start_time DESC"],
      maxResults: howMany - 1,
    },
    call,
  );
  const used = new Set(items.map(({ tags }) => tags["mlflow.runColor"]));
  return runColours.find((colour) => !used.has(colour)) ?? runColours[0]!;
}

function colourOf(index: number): string {
  const hue = (215 + index * 137.508) % 360;
  const [saturation, lightness] = [0.65, index % 2 === 0 ? 0.45 : 0.58];
  const amplitude = saturation * Math.min(lightness, 1 - lightness);
  const channel = (offset: number): string => {
    const k = (offset + hue / 30) % 12;
    const value = lightness - amplitude * Math.max(-1, Math.min(k - 3, 9 - k, 1));
    return Math.round(255 * value)
      .toString(16)
      .padStart(2, "0");
  };
  return `#${channel(0)}${channel(8)}${channel(4)}`;
}
