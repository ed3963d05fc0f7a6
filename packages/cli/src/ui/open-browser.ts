import { spawn } from "node:child_process";

/** Opens a page in the user's browser; where there is none, says so. */
export function openBrowser(page: string, note: (line: string) => void): void {
  const [program, ...before] =
    process.platform === "darwin"
      ? ["open"]
      : process.platform === "win32"
        ? ["rundll32", "url.dll,FileProtocolHandler"]
        : ["xdg-open"];
  const child = spawn(program!, [...before, page], { detached: true, stdio: "ignore" });
  child.on("error", () =>
    note(`no browser could be opened (${program} is not there): open the address above`),
  );
  child.unref();
}
