import { describeLayerParts } from "../../../test/layer-part-cases.js";

describeLayerParts("cpu");
