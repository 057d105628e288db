"""Every function of tcia_utils.nbia that talks to the archive, called as its documentation shows.

Arguments: a JSON object of names and UIDs that the archive has. Prints one JSON line a call: its name and what it
returned (data frames as records), or the exception that it raised.
"""

import json
import os
import sys

import pandas as pd
from tcia_utils import nbia

facts = json.loads(sys.argv[1])
collection = facts["collection"]
series = facts["series"]
folder = facts["folder"]


def plain(value):
    if isinstance(value, pd.DataFrame):
        return json.loads(value.to_json(orient="records"))
    if isinstance(value, pd.Series):
        return {str(key): int(count) for key, count in value.items()}
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    return value


def call(name, function):
    try:
        line = {"call": name, "value": plain(function())}
    except BaseException as error:  # its own StopExecution is no Exception of a known kind
        line = {"call": name, "raised": f"{type(error).__name__}: {error}"}
    print(json.dumps(line, default=str), flush=True)


call("getCollections", lambda: nbia.getCollections())
call("getCollections csv", lambda: nbia.getCollections(format="csv"))
call("getCollections nlst", lambda: nbia.getCollections(api_url="nlst"))
call("getBodyPart", lambda: nbia.getBodyPart(collection=collection))
call("getModality", lambda: nbia.getModality(collection=collection))
call("getManufacturer", lambda: nbia.getManufacturer(collection=collection, modality="CT"))
call("getPatient", lambda: nbia.getPatient(collection=collection))
call("getPatient df", lambda: nbia.getPatient(collection=collection, format="df"))
call(
    "getPatientByCollectionAndModality",
    lambda: nbia.getPatientByCollectionAndModality(collection=collection, modality="CT"),
)
call("getNewPatientsInCollection", lambda: nbia.getNewPatientsInCollection(collection, "1990/01/01"))
call("getStudy", lambda: nbia.getStudy(collection=collection, patientId=facts["patient"]))
call("getNewStudiesInPatient", lambda: nbia.getNewStudiesInPatient(collection, facts["patient"], "1990/01/01"))
call("getSeries", lambda: nbia.getSeries(collection=collection))
call("getSeries one", lambda: nbia.getSeries(seriesUid=series))
call("getSeries none", lambda: nbia.getSeries(collection="no such collection"))
call("getUpdatedSeries", lambda: nbia.getUpdatedSeries("1990/01/01"))
call("getSeriesList", lambda: nbia.getSeriesList(facts["uids"]))
call("getSeriesSize", lambda: nbia.getSeriesSize(series))
call("getSopInstanceUids", lambda: nbia.getSopInstanceUids(series))
call("getSharedCart", lambda: nbia.getSharedCart("sandbox"))
call("getCollectionDescriptions", lambda: nbia.getCollectionDescriptions(format="df", removeHtml="yes"))
call("getCollectionPatientCounts", lambda: nbia.getCollectionPatientCounts())
call("getModalityCounts", lambda: nbia.getModalityCounts(collection=collection))
call("getBodyPartCounts", lambda: nbia.getBodyPartCounts(collection=collection))
call("getManufacturerCounts", lambda: nbia.getManufacturerCounts(collection=collection))
call("getDicomTags", lambda: nbia.getDicomTags(series))
call("reportDicomTags", lambda: nbia.reportDicomTags([series], elements=["(0008,0060)", "(0020,000E)"]))
call("getSegRefSeries rtstruct", lambda: nbia.getSegRefSeries(facts["rtstruct"]))
call("getSegRefSeries seg", lambda: nbia.getSegRefSeries(facts["seg"]))
call("getDoiMetadata", lambda: nbia.getDoiMetadata(facts["doi"]))
call("getDoiMetadata series", lambda: nbia.getDoiMetadata(facts["doi"], output="series"))
call("getSimpleSearch", lambda: nbia.getSimpleSearch(collections=[collection], modalities=["CT"]))
call(
    "getSimpleSearch many",
    lambda: nbia.getSimpleSearch(
        collections=[collection], species=["human"], modalities=["CT", "MR"], minStudies=1, size=100
    ),
)
call("getSimpleSearch uids", lambda: nbia.getSimpleSearch(collections=[collection], format="uids"))
call("getSimpleSearch manifest", lambda: nbia.getSimpleSearch(collections=[collection], format="manifest_text"))
call("getSimpleSearch none", lambda: nbia.getSimpleSearch(collections=["no such collection"], format="uids"))
call("makeSeriesReport", lambda: nbia.makeSeriesReport(nbia.getSeries(collection=collection), format="var"))
call("reportCollectionSummary", lambda: nbia.reportCollectionSummary(nbia.getSeries(collection=collection)))
call("manifestToList", lambda: nbia.manifestToList(facts["manifest"]))
call("downloadImage", lambda: nbia.downloadImage(series, facts["image"], path=os.path.join(folder, "image")))
call(
    "downloadSeries manifest",
    lambda: nbia.downloadSeries(
        facts["manifest"], input_type="manifest", path=os.path.join(folder, "series"), format="df"
    ),
)
call(
    "downloadSeries hash",
    lambda: nbia.downloadSeries([series], input_type="list", hash="y", path=os.path.join(folder, "hash")),
)
call(
    "downloadSeries zip",
    lambda: nbia.downloadSeries([series], input_type="list", as_zip=True, path=os.path.join(folder, "zip")),
)
call(
    "downloadSeries again",
    lambda: nbia.downloadSeries(
        facts["manifest"], input_type="manifest", path=os.path.join(folder, "series"), format="df"
    ),
)
call(
    "downloadSeries unknown",
    lambda: nbia.downloadSeries(["1.2.3.4.5"], input_type="list", path=os.path.join(folder, "unknown")),
)
