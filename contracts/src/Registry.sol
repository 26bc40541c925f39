// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {Escrow} from "./Escrow.sol";

/// @title What exists: base models, Datanet versions, adapters, payees, alias logs. Hashes here, content off chain.
/// @notice Datanets and adapters are recorded under the account that stands behind them, and are referred to by
/// record id, which contains that account.
/// @dev That is what makes front-running pointless: whoever copies a hash from the mempool records it under their
/// own account, while every manifest names the account that counts. References must exist already, so lineage is
/// acyclic by construction. Nothing recorded ever changes: another version, another split, is another record.
contract Registry {
    /// @notice How a price is divided, in basis points summing to 10,000.
    struct Split {
        uint16 platform;
        uint16 worker;
        uint16 author;
        uint16 workPool;
        uint16 contributors;
    }

    /// @notice One version of a Datanet. The root over its sorted contributors makes lineage decidable.
    struct Datanet {
        bytes32 manifest;
        bytes32 contributorsRoot;
        bytes32 licence;
    }

    /// @notice What an adapter's author signs. `datanets` and `parents` are record ids.
    struct AdapterRegistration {
        bytes32 adapter;
        bytes32 base;
        bytes32[] datanets;
        bytes32[] parents;
        Split split;
        address authorPayee;
    }

    /// @notice What is stored of an adapter; its references are in the event. `lineage` is the hash of both lists.
    struct Adapter {
        bytes32 base;
        bytes32 lineage;
        Split split;
        uint64 registeredAt;
    }

    /// @notice An owner's append-only alias log: its length and the hash of its last entry.
    struct AliasLog {
        bytes32 head;
        uint64 length;
    }

    uint256 public constant MAX_DATANETS = 64;
    uint256 public constant MAX_PARENTS = 8;
    uint256 public constant MAX_NAME_BYTES = 64;
    uint256 private constant WHOLE = 10_000;

    bytes32 public constant SPLIT_TYPEHASH =
        keccak256("Split(uint16 platform,uint16 worker,uint16 author,uint16 workPool,uint16 contributors)");
    bytes32 public constant ADAPTER_TYPEHASH = keccak256(
        "AdapterRegistration(bytes32 adapter,bytes32 base,bytes32[] datanets,bytes32[] parents,Split split,address authorPayee)"
        "Split(uint16 platform,uint16 worker,uint16 author,uint16 workPool,uint16 contributors)"
    );
    bytes32 public constant ROTATION_TYPEHASH = keccak256("PayeeRotation(address previous,address next)");

    /// @notice Whose EIP-712 domain signatures here are made under: one deployment, one domain.
    Escrow public immutable escrow;
    /// @notice The least and the most of each share an adapter's split may have. Fixed at deployment.
    Split public floor;
    Split public ceiling;

    mapping(bytes32 baseModel => address registrant) public bases;
    /// @notice What is really loaded (a quantisation, a format): the base it stands for. Under the account that said so.
    mapping(address registrant => mapping(bytes32 artefact => bytes32 baseModel)) public artefacts;
    mapping(bytes32 recordId => Datanet) public datanets;
    mapping(address owner => mapping(bytes32 nameHash => uint32)) public datanetVersions;
    mapping(bytes32 recordId => Adapter) public adapters;
    mapping(address payee => address next) public successors;
    mapping(address owner => AliasLog) public aliasLogs;

    event BaseRegistered(bytes32 indexed baseModel, address indexed registrant);
    event ArtefactRegistered(address indexed registrant, bytes32 indexed artefact, bytes32 indexed baseModel);
    event DatanetRegistered(
        bytes32 indexed recordId, address indexed owner, bytes32 indexed manifest, string name, uint32 version,
        bytes32 contributorsRoot, bytes32 licence
    );
    event AdapterRegistered(
        bytes32 indexed recordId, bytes32 indexed adapter, address indexed authorPayee, AdapterRegistration registration
    );
    event PayeeRotated(address indexed previous, address indexed next);
    event AliasesAppended(address indexed owner, bytes32 head, uint64 length);

    error ZeroHash();
    error BadName();
    error BadBounds();
    error BadSplit();
    error TooMany(uint256 given, uint256 most);
    error VersionNotNext(uint32 given, uint32 next);
    error UnknownBase(bytes32 baseModel);
    error UnknownDatanet(bytes32 recordId);
    error UnknownParent(bytes32 recordId);
    error AlreadyRegistered(bytes32 recordId);
    error BadSignature(address expected);
    error AlreadyRotated(address payee, address next);
    error BadSuccessor(address next);
    error StaleAliasHead(bytes32 head, uint64 length);

    constructor(Escrow escrow_, Split memory floor_, Split memory ceiling_) {
        if (_sum(floor_) > WHOLE || _sum(ceiling_) < WHOLE) revert BadBounds();
        escrow = escrow_;
        floor = floor_;
        ceiling = ceiling_;
    }

    // ---- bases and Datanets -------------------------------------------------------------------------------------

    /// @notice Makes a base model known by the hash that is its id. Anyone, once; a repetition changes nothing.
    function registerBase(bytes32 baseModel) external {
        if (baseModel == 0) revert ZeroHash();
        if (bases[baseModel] != address(0)) return;
        bases[baseModel] = msg.sender;
        emit BaseRegistered(baseModel, msg.sender);
    }

    /// @notice Records that `artefact` is made from `baseModel`, on the caller's word. Once.
    function registerArtefact(bytes32 artefact, bytes32 baseModel) external {
        if (artefact == 0) revert ZeroHash();
        if (bases[baseModel] == address(0)) revert UnknownBase(baseModel);
        if (artefacts[msg.sender][artefact] != 0) revert AlreadyRegistered(artefact);
        artefacts[msg.sender][artefact] = baseModel;
        emit ArtefactRegistered(msg.sender, artefact, baseModel);
    }

    /// @notice Records the next version of the caller's Datanet `name`.
    function registerDatanet(string calldata name, uint32 version, Datanet calldata datanet)
        external
        returns (bytes32 recordId)
    {
        if (bytes(name).length == 0 || bytes(name).length > MAX_NAME_BYTES) revert BadName();
        if (datanet.manifest == 0 || datanet.contributorsRoot == 0) revert ZeroHash();
        bytes32 nameHash = keccak256(bytes(name));
        uint32 next = datanetVersions[msg.sender][nameHash] + 1;
        if (version != next) revert VersionNotNext(version, next);
        datanetVersions[msg.sender][nameHash] = version;
        recordId = datanetRecordId(msg.sender, name, version);
        datanets[recordId] = datanet;
        emit DatanetRegistered(
            recordId, msg.sender, datanet.manifest, name, version, datanet.contributorsRoot, datanet.licence
        );
    }

    function datanetRecordId(address owner, string calldata name, uint32 version) public pure returns (bytes32) {
        return keccak256(abi.encode(owner, keccak256(bytes(name)), version));
    }

    // ---- adapters -----------------------------------------------------------------------------------------------

    /// @notice Records an adapter under its author's payee, who signs the registration; anyone may submit it.
    function registerAdapter(AdapterRegistration calldata registration, bytes calldata signature)
        external
        returns (bytes32 recordId)
    {
        if (registration.adapter == 0) revert ZeroHash();
        recordId = adapterRecordId(registration.authorPayee, registration.adapter);
        if (adapters[recordId].registeredAt != 0) revert AlreadyRegistered(recordId);
        _requireSplit(registration.split);
        _requireReferences(registration);
        _requireSigned(adapterStructHash(registration), signature, registration.authorPayee);
        adapters[recordId] = Adapter({
            base: registration.base,
            lineage: keccak256(abi.encode(registration.datanets, registration.parents)),
            split: registration.split,
            registeredAt: uint64(block.timestamp)
        });
        emit AdapterRegistered(recordId, registration.adapter, registration.authorPayee, registration);
    }

    function adapterRecordId(address authorPayee, bytes32 adapter) public pure returns (bytes32) {
        return keccak256(abi.encode(authorPayee, adapter));
    }

    /// @notice EIP-712 struct hash of a registration.
    function adapterStructHash(AdapterRegistration calldata registration) public pure returns (bytes32) {
        return keccak256(
            abi.encode(
                ADAPTER_TYPEHASH,
                registration.adapter,
                registration.base,
                keccak256(abi.encodePacked(registration.datanets)),
                keccak256(abi.encodePacked(registration.parents)),
                keccak256(abi.encode(SPLIT_TYPEHASH, registration.split)),
                registration.authorPayee
            )
        );
    }

    // ---- payees -------------------------------------------------------------------------------------------------

    /// @notice From now on, what `previous` earns is paid to `next`. Signed by `previous`; anyone may submit it.
    /// @dev For ever: a key that was given up, perhaps because it leaked, has no second say. A successor must not
    /// have been rotated itself, so that chains have an end and never close.
    function rotatePayee(address previous, address next, bytes calldata signature) external {
        if (successors[previous] != address(0)) revert AlreadyRotated(previous, successors[previous]);
        if (next == address(0) || next == previous || successors[next] != address(0)) revert BadSuccessor(next);
        _requireSigned(keccak256(abi.encode(ROTATION_TYPEHASH, previous, next)), signature, previous);
        successors[previous] = next;
        emit PayeeRotated(previous, next);
    }

    /// @notice The end of an account's chain of successors; the account itself if it never rotated.
    function currentPayee(address account) external view returns (address) {
        for (address next = successors[account]; next != address(0); next = successors[account]) account = next;
        return account;
    }

    // ---- aliases ------------------------------------------------------------------------------------------------

    /// @notice Moves the head of the caller's alias log on. `previous` and `length` must be those the caller built on.
    /// @param length the log's length after this
    function appendAliases(bytes32 previous, bytes32 head, uint64 length) external {
        AliasLog storage log = aliasLogs[msg.sender];
        if (head == 0) revert ZeroHash();
        if (log.head != previous || length <= log.length) revert StaleAliasHead(log.head, log.length);
        log.head = head;
        log.length = length;
        emit AliasesAppended(msg.sender, head, length);
    }

    // ---- checks -------------------------------------------------------------------------------------------------

    function _requireReferences(AdapterRegistration calldata registration) private view {
        if (bases[registration.base] == address(0)) revert UnknownBase(registration.base);
        _requireAtMost(registration.datanets.length, MAX_DATANETS);
        _requireAtMost(registration.parents.length, MAX_PARENTS);
        for (uint256 i; i < registration.datanets.length; ++i) {
            bytes32 id = registration.datanets[i];
            if (datanets[id].manifest == 0) revert UnknownDatanet(id);
        }
        for (uint256 i; i < registration.parents.length; ++i) {
            bytes32 id = registration.parents[i];
            if (adapters[id].registeredAt == 0) revert UnknownParent(id);
        }
    }

    function _requireAtMost(uint256 given, uint256 most) private pure {
        if (given > most) revert TooMany(given, most);
    }

    function _requireSplit(Split calldata split) private view {
        if (_sum(split) != WHOLE) revert BadSplit();
        Split memory low = floor;
        Split memory high = ceiling;
        if (
            split.platform < low.platform || split.platform > high.platform || split.worker < low.worker
                || split.worker > high.worker || split.author < low.author || split.author > high.author
                || split.workPool < low.workPool || split.workPool > high.workPool
                || split.contributors < low.contributors || split.contributors > high.contributors
        ) revert BadSplit();
    }

    function _sum(Split memory split) private pure returns (uint256) {
        return uint256(split.platform) + split.worker + split.author + split.workPool + split.contributors;
    }

    function _requireSigned(bytes32 structHash, bytes calldata signature, address expected) private view {
        bytes32 digest = MessageHashUtils.toTypedDataHash(escrow.domainSeparator(), structHash);
        (address signer, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (failure != ECDSA.RecoverError.NoError || signer != expected) revert BadSignature(expected);
    }
}
