import { describe, expect, it } from "vitest";
import { API_VERSIONS, type ApiVersion, baseUrl, dialectOf } from "./dialect.ts";
import { normalRow, withStudy } from "./rows.ts";

const dialect = (version: ApiVersion, resource = "TCIA") => dialectOf(version, resource);

describe("the base URL", () => {
  it.each([
    ["v4", "https://h/nbia-api", "https://h/nbia-api"],
    ["v4", "https://h/nbia-api/", "https://h/nbia-api"],
    ["v4", "https://h/nbia-api/services", "https://h/nbia-api"],
    ["v4", "https://h/nbia-api/services/v4/", "https://h/nbia-api"],
    ["v1", "https://h/nbia-api/services/v1", "https://h/nbia-api"],
    ["v4", "https://h:8443", "https://h:8443"],
    ["v4", "https://h/services-of-mine/nbia-api", "https://h/services-of-mine/nbia-api"],
    ["v3", "https://h", "https://h"],
    ["v3", "https://h/services", "https://h"],
    ["v3", "https://h/services/v3/", "https://h"],
    ["v3", "https://h/services/v3/TCIA", "https://h"],
    ["v3", "https://h/services/v3/TCIA/query/", "https://h"],
    ["v3", "https://h/mirror/services/v3", "https://h/mirror"],
  ] as const)("%s of %s is %s", (version, url, base) => {
    expect(baseUrl(url, version)).toBe(base);
  });
});

describe("questions", () => {
  it("name the version's own path", () => {
    expect(API_VERSIONS.map((each) => dialect(each).rows("getSeries", {})?.path)).toEqual([
      "services/v1/getSeries",
      "services/v2/getSeries",
      "services/v3/TCIA/query/getSeries",
      "services/v4/getSeries",
    ]);
    expect(dialect("v3", "LIDC").rows("getSeries", {})?.path).toBe("services/v3/LIDC/query/getSeries");
    expect(dialect("v3", "SharedList").rows("getSeries", {})?.path).toBe("services/v3/TCIA/query/getSeries");
    expect(dialect("v3").rows("getPatientByCollectionAndModality", {})?.path).toBe(
      "services/v3/TCIA/query/PatientsByModality",
    );
  });

  it("never send a parameter that the version lacks", () => {
    const asked = { Collection: "C", PatientId: "p", Unheard: "x" };
    expect(dialect("v1").rows("getPatient", asked)?.parameters).toEqual({
      Collection: "C",
      PatientId: "p",
      format: "json",
    });
    expect(dialect("v3").rows("getPatient", asked)?.parameters).toEqual({ Collection: "C", format: "json" });
    expect(dialect("v4").rows("getPatient", { Collection: "C" })?.parameters).toEqual({
      Collection: "C",
      format: "json",
    });
  });

  it("write dates as the endpoint reads them", () => {
    const given = { Collection: "C", fromDate: "12-31-2024" };
    const dates = (version: ApiVersion, endpoint: string) =>
      dialect(version).rows(endpoint, given)?.parameters;
    expect(dates("v1", "NewPatientsInCollection")).toMatchObject({ Collection: "C", Date: "2024/12/31" });
    expect(dates("v3", "NewStudiesInPatientCollection")).toMatchObject({ Date: "2024/12/31" });
    expect(dates("v2", "getUpdatedSeries")).toEqual({ fromDate: "31/12/2024", format: "json" });
    expect(dates("v4", "getUpdatedSeries")).toMatchObject({ fromDate: "12-31-2024" });
  });

  it("tell what a version does not have", () => {
    expect(dialect("v3").rows("getUpdatedSeries", {})).toBeNull();
    expect(dialect("v1").rows("getDicomTags", {})).toBeNull();
    for (const version of ["v1", "v2", "v3"] as const) {
      expect(dialect(version).counts("getModalityValuesAndCounts", {})).toBeNull();
      expect(dialect(version).bulk).toBeNull();
    }
    expect(dialect("v3").md5("1.2")).toBeNull();
    expect(dialect("v1").md5("1.2")?.parameters).toEqual({ SOPInstanceUid: "1.2" });
  });
});

describe("rows", () => {
  it("come under v4's names", () => {
    expect(
      normalRow(
        { TimeStamp: "t", CollectionURI: "u", "Date Released": "d", AdmittingDiagnosesDescription: "a" },
        false,
      ),
    ).toEqual({
      MaxSubmissionTimestamp: "t",
      DataDescriptionURI: "u",
      DateReleased: "d",
      AdmittingDiagnosisDescription: "a",
    });
    expect(
      normalRow({ "Series UID": "1", "File Location": "7", "Number of Images": "3", Collection: "C" }, false),
    ).toEqual({ SeriesInstanceUID: "1", StudyID: "7", ImageCount: "3", Collection: "C" });
    expect(normalRow({ PatientID: "p" }, true)).toEqual({ PatientID: "p", PatientId: "p" });
    expect(normalRow({ PatientID: "p" }, false)).toEqual({ PatientID: "p" });
  });

  const study = {
    StudyID: "7",
    StudyDate: "2003-12-12 00:00:00.0",
    StudyDescription: "CHEST",
    PatientSex: "F",
    Collection: "C",
  };

  it("take from the study what their version can't have, and no more", () => {
    expect(withStudy({ SeriesInstanceUID: "1", FileSize: 5 }, study)).toEqual({
      SeriesInstanceUID: "1",
      FileSize: 5,
      StudyID: "7",
      PatientSex: "F",
    });
    expect(withStudy({ SeriesInstanceUID: "1", Collection: "D", ImageCount: 5 }, study)).toEqual({
      SeriesInstanceUID: "1",
      Collection: "D",
      ImageCount: 5,
      StudyID: "7",
      PatientSex: "F",
      StudyDate: "2003-12-12 00:00:00.0",
      StudyDesc: "CHEST",
    });
  });
});
