import { hash32 } from "../hash32.ts";

const FIRST_DAY_MS = Date.UTC(2011, 5, 1);
const SPAN_SECONDS = 13 * 365 * 86_400;

const stamp = (ms: number): string => new Date(ms).toISOString().slice(0, 19).replace("T", " ");

/**
 * When the archive took a series in and when it released it (`yyyy-MM-dd HH:mm:ss`), made up from the UID alone:
 * between June 2011 and mid 2024, released at once in three cases of four, else within 90 days.
 */
export function archiveDates(seriesInstanceUid: string): { submittedAt: string; releasedAt: string } {
  const submittedMs = FIRST_DAY_MS + (hash32(`submitted ${seriesInstanceUid}`) % SPAN_SECONDS) * 1000;
  const chance = hash32(`released ${seriesInstanceUid}`);
  const submittedAt = stamp(submittedMs);
  if (chance % 4 !== 0) return { submittedAt, releasedAt: submittedAt };
  return { submittedAt, releasedAt: stamp(submittedMs + ((chance >>> 2) % (90 * 86_400)) * 1000) };
}

export const CC_BY_3 = {
  licenseName: "Creative Commons Attribution 3.0 Unported License",
  licenseUri: "http://creativecommons.org/licenses/by/3.0/",
} as const;

export const CC_BY_4 = {
  licenseName: "Creative Commons Attribution 4.0 International License",
  licenseUri: "https://creativecommons.org/licenses/by/4.0/",
} as const;

export const CC_BY_NC_4 = {
  licenseName: "Creative Commons Attribution-NonCommercial 4.0 International License",
  licenseUri: "https://creativecommons.org/licenses/by-nc/4.0/",
} as const;
