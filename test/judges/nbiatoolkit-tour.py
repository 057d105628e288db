"""Every method of nbiatoolkit's NBIAClient, called as its documentation shows.

Arguments: a JSON object of names and UIDs that the archive has. Prints one JSON line a call: its name and what it
returned (data frames as records), or the exception that it raised.
"""

import json
import os
import sys

import pandas as pd
from nbiatoolkit import NBIAClient

facts = json.loads(sys.argv[1])
collection = facts["collection"]
series = facts["series"]
folder = facts["folder"]


def plain(value):
    if isinstance(value, pd.DataFrame):
        return json.loads(value.to_json(orient="records"))
    return value


def call(name, function):
    try:
        line = {"call": name, "value": plain(function())}
    except BaseException as error:
        line = {"call": name, "raised": f"{type(error).__name__}: {error}"}
    print(json.dumps(line, default=str), flush=True)


def main():
    client = NBIAClient(username=facts["user"], password=facts["password"], log_level="WARNING")
    call("getCollections", lambda: client.getCollections())
    call("getCollections prefix", lambda: client.getCollections(prefix=collection[:4], return_type="dataframe"))
    call("getCollectionDescriptions", lambda: client.getCollectionDescriptions(collectionName=collection))
    call("getCollectionPatientCount", lambda: client.getCollectionPatientCount())
    call("getModalityValues", lambda: client.getModalityValues(Collection=collection))
    call("getModalityValues counts", lambda: client.getModalityValues(Collection=collection, Counts=True))
    call("getPatients", lambda: client.getPatients(Collection=collection))
    call("getNewPatients", lambda: client.getNewPatients(Collection=collection, Date="1990/01/01"))
    call(
        "getPatientsByCollectionAndModality",
        lambda: client.getPatientsByCollectionAndModality(Collection=collection, Modality="CT"),
    )
    call("getBodyPartCounts", lambda: client.getBodyPartCounts(Collection=collection))
    call("getStudies", lambda: client.getStudies(Collection=collection))
    call("getSeries", lambda: client.getSeries(Collection=collection))
    call("getSeries df", lambda: client.getSeries(Collection=collection, Modality="CT", return_type="dataframe"))
    call("getSeries none", lambda: client.getSeries(Collection="no such collection"))
    call("getSeriesMetadata", lambda: client.getSeriesMetadata(facts["uids"]))
    call("getNewSeries", lambda: client.getNewSeries(Date="01/01/1990"))
    call("getDICOMTags", lambda: client.getDICOMTags(series))
    call("getRefSeriesUIDs rtstruct", lambda: client.getRefSeriesUIDs(facts["rtstruct"]))
    call("getRefSeriesUIDs seg", lambda: client.getRefSeriesUIDs(facts["seg"]))
    call("generateFilePathFromDICOMTags", lambda: client.generateFilePathFromDICOMTags(series))
    call(
        "downloadSeries",
        lambda: client.downloadSeries(facts["uids"], downloadDir=os.path.join(folder, "series"), nParallel=2),
    )
    call(
        "downloadSeries pattern",
        lambda: client.downloadSeries(
            series,
            downloadDir=os.path.join(folder, "pattern"),
            filePattern="%PatientID/%StudyInstanceUID/%SeriesInstanceUID/%SOPInstanceUID.dcm",
        ),
    )
    client.__exit__(None, None, None)


if __name__ == "__main__":
    main()
