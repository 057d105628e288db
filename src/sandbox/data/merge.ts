import type { Dataset } from "./dataset.ts";

/**
 * Both data sets as one archive: the series of `a`, then those of `b`. Copies nothing. A series UID that both hold is
 * that of `a`; `seriesCount` is the sum and assumes there is none. Descriptions of `a` come before those of `b`.
 */
export function mergeDatasets(a: Dataset, b: Dataset): Dataset {
  return {
    *series() {
      yield* a.series();
      for (const series of b.series()) if (!a.find(series.seriesInstanceUid)) yield series;
    },
    find: (seriesInstanceUid) => a.find(seriesInstanceUid) ?? b.find(seriesInstanceUid),
    seriesCount: a.seriesCount + b.seriesCount,
    problems: [...a.problems, ...b.problems],
    collectionDescription: (collection) =>
      a.collectionDescription(collection) ?? b.collectionDescription(collection),
  };
}
