import type { Command } from "commander";

/**
 * What commander is to parse: the arguments as they are, but without the wish for help where they name a command that does
 * not exist. Commander would print the help of the command above it and succeed; without the wish it says what is unknown and
 * what was perhaps meant, and fails.
 *
 * @param args without node and the script
 */
export function refuseHelpOfUnknownCommand(program: Command, args: readonly string[]): readonly string[] {
  const [first, ...named] = args;
  // `help sweep` is another way to say `sweep --help`.
  const line = first === "help" && named.length > 0 ? named : args;
  return namesUnknownCommand(program, line) ? line.filter((arg) => !isHelp(arg)) : args;
}

function namesUnknownCommand(program: Command, args: readonly string[]): boolean {
  let above = program;
  for (const arg of args) {
    if (above.commands.length === 0 || arg === "--") return false;
    if (arg.startsWith("-")) continue;
    const command = above.commands.find((known) => known.name() === arg || known.aliases().includes(arg));
    // Below the program `help` is a command, too, that commander makes itself.
    if (command === undefined) return arg !== "help";
    above = command;
  }
  return false;
}

function isHelp(arg: string): boolean {
  return arg === "--help" || arg === "-h";
}
