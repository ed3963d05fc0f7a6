import { describeAttention } from "../../../test/attention-cases.js";

describeAttention("cpu");
