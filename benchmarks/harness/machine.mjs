// What else the machine does while something is measured. Linux counts it; elsewhere nothing is known.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const ticksPerSecond = 100;

/** Processor time so far: of the whole machine (idle left out), taken away by a hypervisor, and of some processes. */
export function processorTimes(pids = []) {
  try {
    const [user, nice, system, , , irq, softirq, steal] = readFileSync("/proc/stat", "utf8")
      .split("\n")[0]
      .trim()
      .split(/\s+/)
      .slice(1)
      .map(Number);
    const own = pids.reduce((sum, pid) => sum + processTicks(pid), 0);
    return {
      busy: (user + nice + system + irq + softirq) / ticksPerSecond,
      stolen: steal / ticksPerSecond,
      own: own / ticksPerSecond,
      at: performance.now() / 1000,
    };
  } catch {
    return null;
  }
}

function processTicks(pid) {
  const text = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The name may hold spaces; what follows its bracket does not. User and system time are fields 14 and 15.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

/**
 * Cores that others used between two readings, and cores that the hypervisor gave to others; null where it is not known.
 */
export function othersBetween(before, after) {
  if (before === null || after === null) return null;
  const seconds = after.at - before.at;
  const others = after.busy - before.busy - (after.own - before.own);
  return {
    cores: Math.max(0, others / seconds),
    stolen: Math.max(0, (after.stolen - before.stolen) / seconds),
  };
}

/** Cores in use over a second in which the benchmark itself does nothing. */
export async function coresInUse(seconds = 1) {
  const before = processorTimes();
  await sleep(seconds * 1000);
  return othersBetween(before, processorTimes());
}
