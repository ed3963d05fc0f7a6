const prefixes = ["", "k", "M", "G", "T", "P", "E", "Z", "Y"] as const;

/** `12_345_678` as `12.3 M`: three significant digits and a decimal prefix. */
export function formatCount(value: number): string {
  let scaled = value;
  let prefix = 0;
  while (scaled >= 999.5 && prefix < prefixes.length - 1) {
    scaled /= 1000;
    prefix++;
  }
  const digits = prefix === 0 && Number.isInteger(value) ? 0 : scaled >= 99.95 ? 0 : scaled >= 9.995 ? 1 : 2;
  return `${scaled.toFixed(digits)} ${prefixes[prefix]}`.trimEnd();
}

/** `12.3 GFLOP` */
export function formatFlops(flops: number): string {
  const count = formatCount(flops);
  return /[a-zA-Z]$/.test(count) ? `${count}FLOPs` : `${count} FLOPs`;
}

/** Bytes as `1.2 GB`, decimal prefixes. */
export function formatBytes(bytes: number): string {
  const count = formatCount(bytes);
  return /[a-zA-Z]$/.test(count) ? `${count}B` : `${count} B`;
}

/** `3 min 05 s`; milliseconds below a second. */
export function formatSeconds(seconds: number): string {
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${pad(whole % 60)} s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${pad(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86_400)} d ${pad(Math.floor((whole % 86_400) / 3600))} h`;
}

/** `12.3 %`, with a true minus. */
export function formatShare(share: number): string {
  return `${(share * 100).toFixed(1)} %`.replace("-", "−");
}

function pad(value: number): string {
  return String(value).padStart(2, "0");
}
