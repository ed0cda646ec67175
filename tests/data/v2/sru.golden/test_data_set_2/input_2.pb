Bstate_inJ ÄÆK?Np?R©
?çot¾ý\[¿¹5¾L	ý¾§’,?