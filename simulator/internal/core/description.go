// SPDX-License-Identifier: Apache-2.0

package core

import "strings"

// otherNames are the methods that return tasks and that the API's own language calls otherwise than the WSDL does, with which
// TaskInfo.descriptionId names them: VirtualMachine.reconfigure is ReconfigVM_Task. They are those of pyVmomi's tables.
var otherNames = map[string]string{
	"AddDVPortgroup": "addPortgroups", "ApplyEntitiesConfig": "applyEntitiesConfiguration",
	"ApplyEvcModeVM": "applyEvcMode", "ApplyHostConfig": "applyHostConfiguration",
	"ApplyStorageDrsRecommendation":       "applyRecommendation",
	"ApplyStorageDrsRecommendationToPod":  "applyRecommendationToPod",
	"CertMgrRefreshCACertificatesAndCRLs": "refreshCACertificatesAndCRLs",
	"CertMgrRefreshCertificates":          "refreshCertificates", "CertMgrRevokeCertificates": "revokeCertificates",
	"CheckConfigureEvcMode": "checkConfigureEvc", "CheckHostPatch": "Check", "CheckProfileCompliance": "checkCompliance",
	"CloneVApp": "clone", "CloneVM": "clone", "CompositeHostProfile": "compositeProfile",
	"ConfigureDatastoreIORM": "ConfigureDatastoreIORM", "ConfigureEvcMode": "configureEvc",
	"ConfigureHostCache": "configureCache", "ConsolidateVMDisks": "consolidateDisks", "CopyDatastoreFile": "copyFile",
	"CreateChildVM": "createVm", "CreateDVPortgroup": "addPortgroup", "CreateDVS": "createDistributedVirtualSwitch",
	"CreateNvdimmNamespace": "createNamespace", "CreateNvdimmPMemNamespace": "createPMemNamespace",
	"CreateSecondaryVM": "createSecondary", "CreateSecondaryVMEx": "createSecondaryEx", "CreateVM": "createVm",
	"CustomizeGuest": "customize", "CustomizeVM": "customize", "DVPortgroupRollback": "rollback",
	"DVSManagerExportEntity": "exportEntity", "DVSManagerImportEntity": "importEntity", "DVSRollback": "rollback",
	"DatastoreExitMaintenanceMode": "exitMaintenanceMode", "DeleteDatastoreFile": "deleteFile",
	"DeleteNvdimmBlockNamespaces": "deleteBlockNamespaces", "DeleteNvdimmNamespace": "deleteNamespace",
	"DisableEvcMode": "disableEvc", "DisableSecondaryVM": "disableSecondary", "DisconnectHost": "disconnect",
	"DvsReconfigureVmVnicNetworkResourcePool": "reconfigureVmVnicNetworkResourcePool",
	"EnableSecondaryVM":                       "enableSecondary",
	"EstimateStorageForConsolidateSnapshots":  "estimateStorageRequirementForConsolidate",
	"EvacuateVsanNode":                        "evacuateNode", "GenerateHostProfileTaskList": "generateTaskList",
	"HostCloneVStorageObject": "cloneVStorageObject", "HostCreateDisk": "createDisk",
	"HostDeleteVStorageObject": "deleteVStorageObject", "HostDeleteVStorageObjectEx": "deleteVStorageObjectEx",
	"HostExtendDisk": "extendDisk", "HostInflateDisk": "inflateDisk",
	"HostReconcileDatastoreInventory": "reconcileDatastoreInventory",
	"HostRelocateVStorageObject":      "relocateVStorageObject", "HostSetVirtualDiskUuid": "setVirtualDiskUuidEx",
	"HostUpdateVStorageObjectMetadata":         "updateVStorageObjectMetadata",
	"HostUpdateVStorageObjectMetadataEx":       "updateVStorageObjectMetadataEx",
	"HostVStorageObjectCreateDiskFromSnapshot": "createDiskFromSnapshot",
	"HostVStorageObjectCreateSnapshot":         "createSnapshot", "HostVStorageObjectDeleteSnapshot": "deleteSnapshot",
	"HostVStorageObjectRevert": "RevertVStorageObject", "HttpNfcLeasePullFromUrls": "pullFromUrls",
	"InstallHostPatch": "Install", "InstallHostPatchV2": "InstallV2", "MakePrimaryVM": "makePrimary",
	"MergeDvs": "merge", "MigrateVM": "migrate", "MoveDVPort": "movePort", "MoveDatastoreFile": "moveFile",
	"MoveIntoFolder": "moveInto", "PerformDvsProductSpecOperation": "performProductSpecOperation",
	"PerformVsanUpgrade": "performUpgrade", "PerformVsanUpgradePreflightAsyncCheck": "performUpgradePreflightAsyncCheck",
	"PowerDownHostToStandBy": "enterStandbyMode", "PowerOffVApp": "powerOff", "PowerOffVM": "powerOff",
	"PowerOnMultiVM": "powerOnVm", "PowerOnVApp": "powerOn", "PowerOnVM": "powerOn",
	"PowerUpHostFromStandBy": "exitStandbyMode", "QueryHostPatch": "Query", "RebootHost": "reboot",
	"RecommissionVsanNode": "recommissionNode", "ReconfigVM": "reconfigure", "ReconfigureCluster": "reconfigure",
	"ReconfigureComputeResource": "reconfigureEx", "ReconfigureDVPort": "reconfigurePort",
	"ReconfigureDVPortgroup": "reconfigure", "ReconfigureDatacenter": "reconfigure", "ReconfigureDvs": "reconfigure",
	"ReconfigureHostForDAS": "reconfigureDAS", "ReconnectHost": "reconnect", "RectifyDvsHost": "rectifyHost",
	"RectifyDvsOnHost": "rectifyHost", "RefreshStorageDrsRecommendationsForPod": "refreshRecommendationsForPod",
	"RegisterChildVM": "registerVm", "RegisterVM": "registerVm", "RelocateVM": "relocate", "RemoveSnapshot": "remove",
	"RepairVStorageObjectChain": "repairDiskChain", "ResetVM": "reset", "RevertToSnapshot": "revert",
	"RevertVStorageObject": "RevertVStorageObject", "ScanHostPatch": "Scan", "ScanHostPatchV2": "ScanV2",
	"SearchDatastore": "search", "SearchDatastoreSubFolders": "searchSubFolders", "ShutdownHost": "shutdown",
	"SmsRefreshCACertificatesAndCRLs": "refreshCACertificatesAndCRLs", "StageHostPatch": "Stage",
	"StartGuestNetwork": "startNetwork", "SuspendVApp": "suspend", "SuspendVM": "suspend",
	"TurnOffFaultToleranceForVM": "turnOffFaultTolerance", "UninstallHostPatch": "Uninstall",
	"UpdateDVSHealthCheckConfig": "updateHealthCheckConfig", "UpdateDVSLacpGroupConfig": "updateLacpGroupConfig",
	"UpdateVsan": "update", "UpgradeVM": "upgradeVirtualHardware",
	"VCenterUpdateVStorageObjectMetadataEx": "updateVStorageObjectMetadataEx",
	"VStorageObjectCreateSnapshot":          "createSnapshot", "VStorageObjectCreateSnapshotEx": "createSnapshotEx",
	"VStorageObjectDeleteSnapshotEx": "deleteSnapshotEx", "VStorageObjectDeleteSnapshotEx2": "deleteSnapshotEx2",
	"VStorageObjectExtendDiskEx": "extendDiskEx", "ValidateHostProfileComposition": "validateComposition",
	"VasaProviderReconnect": "reconnect", "VasaProviderRefreshCertificate": "refreshCertificate",
	"VasaProviderRevokeCertificate": "revokeCertificate", "VasaProviderSync": "sync",
	"VsanDeleteObjects": "deleteObjects", "VsanDownloadAndInstallVendorTool": "downloadAndInstallVendorTool",
	"VsanDownloadHclFile": "downloadHclFile", "VsanEncryptedClusterRekey": "rekeyEncryptedCluster",
	"VsanFlashScsiControllerFirmware": "flashScsiControllerFirmware", "VslmAttachDisk": "attachDisk",
	"VslmCloneVStorageObject": "cloneVStorageObject", "VslmCreateDisk": "createDisk",
	"VslmCreateDiskFromSnapshot": "createDiskFromSnapshot", "VslmCreateSnapshot": "createSnapshot",
	"VslmDeleteSnapshot": "deleteSnapshot", "VslmDeleteVStorageObject": "deleteVStorageObject",
	"VslmExtendDisk": "extendDisk", "VslmInflateDisk": "inflateDisk",
	"VslmReconcileDatastoreInventory": "reconcileDatastoreInventory",
	"VslmRelocateVStorageObject":      "relocateVStorageObject", "VslmRevertVStorageObject": "revertVStorageObject",
	"VslmUpdateVStorageInfrastructureObjectPolicy": "updateVStorageInfrastructureObjectPolicy",
	"VslmUpdateVStorageObjectMetadata":             "updateVStorageObjectMetadata",
	"VslmUpdateVstorageObjectCrypto":               "updateVStorageObjectCrypto",
	"VslmUpdateVstorageObjectPolicy":               "updateVStorageObjectPolicy", "configureVcha": "configure", "deployVcha": "deploy",
	"destroyVcha": "destroy", "prepareVcha": "prepare", "reloadVirtualMachineFromPath": "reloadFromPath",
	"unregisterVApp": "unregister",
}

// DescriptionID is TaskInfo.descriptionId of a method ("ReconfigVM_Task") of a type of objects: a key of
// TaskManager.description.methodInfo.
func DescriptionID(kind, method string) string {
	method = strings.TrimSuffix(method, "_Task")
	name, other := otherNames[method]
	if !other && method != "" {
		name = strings.ToLower(method[:1]) + method[1:]
	}
	switch method {
	case "RemoveSnapshot", "RevertToSnapshot": // the task is about the machine
		kind = "vm.Snapshot"
	}
	return kind + "." + name
}
