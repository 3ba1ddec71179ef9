// Sizes in words.

/** A size for people. */
export function bytesText(n: number): string {
  if (n < 1000) return `${n} bytes`;
  const units = ["kB", "MB", "GB", "TB"];
  let k = -1;
  do {
    n /= 1000;
    k++;
  } while (n >= 999.5 && k < units.length - 1);
  return `${n < 10 ? n.toFixed(1) : Math.round(n)} ${units[k]}`;
}
