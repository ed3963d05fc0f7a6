/**
 * floor(share · steps), exact in the decimal digits that the share was written with: 0.29 of 100 steps are 29, where
 * floating point says 28.
 *
 * @param share 0 ≤ share ≤ 1
 * @param steps a whole number
 * @throws RangeError for anything else
 */
export function shareOfSteps(share: number, steps: number): number {
  if (!(share >= 0 && share <= 1)) throw new RangeError(`a share lies from 0 to 1, not at ${share}`);
  if (!Number.isSafeInteger(steps) || steps < 0)
    throw new RangeError(`steps are a whole number from 0 on, not ${steps}`);
  // The shortest decimal that names the number, `0.29` or `2.5e-7`, as digits / 10^places.
  const [mantissa = "0", exponent = "0"] = String(share).split("e");
  const [whole = "0", decimals = ""] = mantissa.split(".");
  const digits = BigInt(whole + decimals);
  const places = BigInt(decimals.length - Number(exponent));
  return Number((digits * BigInt(steps)) / 10n ** places);
}
