Bstate_00_c_inJÄÆK?Np?R©
?çot¾