/**
 * The historic service on Bindaas, `services/v3/{TCIA,SharedList}/query/…`, with an `api_key`. Its endpoints and
 * their parameters are from a client of its time (amrosado/TciaApiV3ClientPython, 2015). It gives no digests.
 */
import type { Dialect, Parameters, Question } from "./dialect.ts";
import { olderParameters, V1_SEARCHES } from "./v1.ts";

const { getUpdatedSeries: _, ...OTHERS } = V1_SEARCHES;
const SEARCHES = { ...OTHERS, getPatient: ["Collection"] };

/** Resource of the lists that people share. */
const LISTS = "SharedList";

export function v3(resource: string): Dialect {
  // With `SharedList` configured the data are still those of TCIA: lists are asked of their own resource anyway.
  const data = resource === LISTS ? "TCIA" : resource;
  const ask = (endpoint: string, parameters: Parameters): Question => ({
    path: `services/v3/${data}/query/${endpoint}`,
    parameters,
  });
  return {
    access: "key",
    digests: false,
    bulk: null,
    studiesApart: true,
    rows: (endpoint, parameters) => {
      const older = olderParameters(SEARCHES, endpoint, parameters);
      const name = endpoint === "getPatientByCollectionAndModality" ? "PatientsByModality" : endpoint;
      return older && ask(name, older);
    },
    counts: () => null,
    images: (uid) => ask("getImage", { SeriesInstanceUID: uid }),
    image: (uid, sop) => ask("getSingleImage", { SeriesInstanceUID: uid, SOPInstanceUID: sop }),
    md5: () => null,
    sharedList: (name) => ({
      path: `services/v3/${LISTS}/query/ContentsByName`,
      parameters: { name, format: "json" },
    }),
  };
}
