import { accessSync, constants, mkdirSync } from "node:fs";
import { delimiter, join } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";

const names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const screenshots = join(import.meta.dirname, "..", "..", "..", "..", ".espalier", "screenshots");

/** What is said where the tests of web pages are skipped. */
export const missingChromium =
  "no Chromium on PATH, tests of MLflow's pages are skipped; get it with: apt-get install chromium";

/** The Chromium of this machine; `undefined` where there is none. Nothing is downloaded. */
export function findChromium(): string | undefined {
  const folders = (process.env.PATH ?? "").split(delimiter).filter((folder) => folder !== "");
  return names.flatMap((name) => folders.map((folder) => join(folder, name))).find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** A line or bar of a chart, as Plotly holds it. */
export interface Trace {
  readonly name: string;
  readonly x: readonly number[];
  readonly y: readonly number[];
  readonly colour: string | undefined;
}

/** The same, as Plotly keeps it at its element. */
interface Drawn {
  readonly name?: string;
  readonly x?: ArrayLike<number>;
  readonly y?: ArrayLike<number>;
  readonly line?: { readonly color?: string };
  readonly marker?: { readonly color?: string };
}

/** A chart with its title. */
export interface Chart {
  readonly title: string;
  readonly traces: readonly Trace[];
}

/** Chromium looking at MLflow's pages. Notes what goes wrong in them, and whom they ask. */
export class MlflowBrowser {
  /** What scripts of the page threw. */
  readonly errors: string[] = [];
  /** Hosts other than the server's that were asked. */
  readonly outside: string[] = [];

  private constructor(
    readonly browser: Browser,
    readonly page: Page,
  ) {
    page.setDefaultTimeout(30_000);
    page.on("pageerror", (error) => this.errors.push(error.message));
    page.on("request", (request) => {
      const { protocol, hostname } = new URL(request.url());
      if (/^https?:$/.test(protocol) && hostname !== "127.0.0.1") this.outside.push(hostname);
    });
  }

  static async start(executablePath: string): Promise<MlflowBrowser> {
    // Its sandbox needs rights that a container's root has not; the pages are our own.
    const browser = await chromium.launch({
      executablePath,
      args: ["--no-sandbox", "--disable-dev-shm-usage"],
    });
    // Tall: charts are drawn when they come into view.
    const page = await browser.newPage({ viewport: { width: 1440, height: 2400 } });
    // A side panel that opens by itself, over a quarter of the page.
    await page.addInitScript(`
      if (location.protocol !== "about:") {
        localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
        localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
      }
    `);
    return new MlflowBrowser(browser, page);
  }

  async stop(): Promise<void> {
    await this.browser.close();
  }

  /** Opens an address and waits until what matters there is seen. */
  async open(address: string, selector: string): Promise<Page> {
    // The pages differ only behind the #, which alone loads nothing anew.
    await this.page.goto("about:blank");
    await this.page.goto(address);
    await this.page.locator(selector).first().waitFor();
    return this.page;
  }

  /** Waits for a chart whose title this is, and gives what is drawn in it. */
  async chart(title: string): Promise<Chart> {
    const card = this.page
      .getByTestId("experiment-view-compare-runs-card")
      .filter({ has: this.page.getByText(title, { exact: true }) })
      .filter({ has: this.page.locator(".js-plotly-plot") })
      .first();
    const plot = card.locator(".js-plotly-plot").first();
    await plot.waitFor();
    const traces = await plot.evaluate((element: unknown) =>
      (element as { readonly data: readonly Drawn[] }).data.map(({ name, x, y, line, marker }) => ({
        name: name ?? "",
        x: Array.from(x ?? []),
        y: Array.from(y ?? []),
        colour: line?.color ?? marker?.color,
      })),
    );
    return { title, traces };
  }

  /** Keeps what is seen as `.espalier/screenshots/<name>.png`. */
  async screenshot(name: string): Promise<void> {
    mkdirSync(screenshots, { recursive: true });
    await this.page.screenshot({ path: join(screenshots, `${name}.png`) });
  }
}
