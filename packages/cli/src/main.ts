import { CommanderError } from "commander";
import { createProgram } from "./program.js";
import { showError } from "./show-error.js";
import { refuseHelpOfUnknownCommand } from "./unknown-command.js";

/**
 * Runs the command line and sets the process's exit code: 0 success, 1 failure, 2 wrong use or a wrong definition.
 *
 * @param args without node and the script
 */
export async function main(args: readonly string[]): Promise<void> {
  refuseToDieOfClosedPipes();
  // What no promise carries (a timer, a stream) is shown like everything else.
  process.on("uncaughtException", (error) => process.exit(showError(error)));
  try {
    const program = createProgram();
    await program.parseAsync(refuseHelpOfUnknownCommand(program, args), { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError) {
      // commander has written its message; help and version are no errors
      process.exitCode = error.exitCode === 0 ? 0 : 2;
      return;
    }
    process.exitCode = showError(error);
  }
}

// `espalier plan … | head` closes our output early, which is no failure.
function refuseToDieOfClosedPipes(): void {
  for (const stream of [process.stdout, process.stderr])
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
      process.exit(process.exitCode ?? 0);
    });
}
